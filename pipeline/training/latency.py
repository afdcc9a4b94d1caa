"""The latency of a network, measured once on a machine, so that the same network has one latency in all results."""

import hashlib
import json
import os
from typing import Any

from torch import nn

from pipeline.data.prepared import Meta
from pipeline.models.count import latency
from pipeline.storage.checkpoints import Checkpoint
from pipeline.storage.documents import read_json, write_json
from pipeline.storage.records import LatencyDocument
from pipeline.storage.store import Store

BATCHES = (1, 64)  # images in a forward pass
RUN, FILE = "latency", "latency.json"  # where the store keeps a measurement: RUN/KEY/finished/FILE


class Latency:
    """Measures networks, or finds them measured in the checkpoint store.

    environment: of the stage.  meta: of the data, whose images the networks classify.
    """

    def __init__(self, store: Store, environment: dict[str, Any], meta: Meta):
        self.store, self.environment, self.meta = store, environment, meta

    def __call__(self, arch: str, module: nn.Module) -> dict[str, float]:
        """Milliseconds of a forward pass by batch size.  module: a network of this architecture, on the device."""
        decides = [arch, self.meta.num_classes, self.meta.in_chans, list(self.meta.image_size), self.environment]
        key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]
        entry = Checkpoint(self.store.root / RUN / key, log=lambda line: None)
        with entry.locked(wait=True):
            if not entry.is_finished():
                shape = (self.meta.in_chans, self.meta.image_size)
                found = {str(batch): round(latency(module, *shape, batch), 4) for batch in BATCHES}
                entry.finish(lambda folder: write_json(folder / FILE, {"latency_ms": found}))
            os.utime(entry.folder)  # the store evicts what was not used for the longest time
            return read_json(entry.finished / FILE, LatencyDocument)["latency_ms"]

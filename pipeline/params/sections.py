"""The sections of params.yaml that every run has: data, recipe, networks, methods, export, report and runtime."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.params.value_types import (
    Arch,
    Auto,
    Count,
    CountOrZero,
    Fraction,
    Images,
    InnerFraction,
    Name,
    NotNegative,
    OrNone,
    PathText,
    Positive,
    Seed,
    Text,
)

ARCH = "network of timm or of the zoo"


def doc(meaning: str, **bounds: Any) -> Any:
    """A field with its meaning, for the page of parameters, and its bounds."""
    return Field(description=meaning, **bounds)


class Section(BaseModel):
    """A mapping in params.yaml. Strict: "0.1" is not a number, true is not an integer, unknown keys are errors.

    stage_keys: keys of a method's section that a stage reads for itself, so the method's dataclass does not have them.
    starts_from: what a method needs of `methods.NAME.after`: teacher, a chain that ends in the teacher or an assistant,
        members, or anything.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    stage_keys: ClassVar[frozenset[str]] = frozenset()
    starts_from: ClassVar[Literal["anything", "teacher", "chain", "members"]] = "anything"


class Data(Section):
    """Where the images come from, and how `prepare` splits them."""

    source: Literal[
        "digits",
        "fashion_mnist",
        "cifar10",
        "cifar100",
        "folder",
        "parquet",
        "imagenet",
        "table",
        "breast_cancer",
        "wine",
    ] = doc(
        "digits is part of scikit-learn, and so are breast_cancer and wine, which are tables; table is "
        "ROOT/train.csv or .parquet, with numeric columns and a label column; "
        "torchvision downloads fashion_mnist, cifar10 and cifar100 once; folder is "
        "ROOT/train/CLASS/*; parquet has the Hugging Face layout; imagenet is a streamed folder whose val is the test "
        "split"
    )
    root: PathText = doc("folder of the data; the pipeline depends on its content")
    storage: Auto[Literal["memory", "stream"]] = doc(
        "memory copies the images into arrays; stream decodes folder and imagenet during training, and root then holds "
        "their manifest (python -m stages.manifest); auto: stream for imagenet, memory for the others"
    )
    image_size: Auto[Annotated[int, Field(ge=1, le=4096)]] = doc(
        "height and width in pixels; auto: 224 for imagenet, else the size of the images, or the median of their "
        "shorter sides, at most 224, if they differ"
    )
    limit: Auto[Images] = doc("number of training images to keep, stratified; auto: 400 for digits, else all")
    validation: Auto[Images | InnerFraction] = doc(
        "validation images to split off the training data, stratified: a number or a fraction; auto: 400 for digits, "
        "0.2 for tables, 0.02 for imagenet, else 0.1"
    )
    seed: Seed = doc("seed of the split, of the label noise and of the teacher's share")
    label_noise: OrNone[Annotated[float, Field(ge=0, lt=1)] | PathText] = doc(
        "wrong labels of training images; validation and test stay clean. A fraction of the images, stratified, gets "
        "labels drawn uniformly from the other classes; a path relative to data.root is that of a CSV file with the "
        "probabilities of the labels that each class gets; none or 0: the labels of the data"
    )
    teacher_share: float = doc(
        "fraction of the training images, stratified, on which teacher and assistants are trained; students see all",
        gt=0,
        le=1,
    )
    on_error: Literal["fail", "skip"] = doc("what to do with a file that is not a readable image")
    image_column: Auto[Text] = doc("parquet: the column of images; auto: detect it")
    label_column: Auto[Text] = doc("parquet: the column of labels; auto: detect it; table: auto is `label`")


class Train(Section):
    """How every network is trained."""

    epochs: Count = doc("passes over the training images in each leg of a run")
    batch_size: int = doc("images in a batch, summed over all processes; at least two for each", ge=2, le=1_000_000)
    optimizer: Literal["sgd", "adamw"] = doc("SGD with momentum, or AdamW")
    lr: Auto[Annotated[float, Field(gt=0, le=100)]] = doc(
        "learning rate; auto: sgd 0.1, or 0.01 for a network of timm; adamw 0.001; a tenth of that for a network that "
        "starts from pretrained weights or a checkpoint"
    )
    layer_decay: float = doc(
        "for a pretrained network of timm: factor of the learning rate from each layer to the one before it; 1: none",
        gt=0,
        le=1,
    )
    schedule: Literal["cosine", "step", "constant"] = doc("how the learning rate decays")
    milestones: list[InnerFraction] = doc(
        "for schedule step: fractions of a leg after which gamma applies", max_length=100
    )
    gamma: float = doc("for schedule step: factor of the learning rate at each milestone", gt=0, le=1)
    warmup_epochs: CountOrZero = doc("epochs in which the learning rate rises linearly")
    momentum: float = doc("momentum of SGD; beta_1 of AdamW", ge=0, lt=1)
    beta2: float = doc("beta_2 of AdamW", ge=0, lt=1)
    nesterov: bool = doc("Nesterov momentum of SGD; requires momentum > 0")
    weight_decay: Fraction = doc("weight decay, applied to all weights")
    clip_grad_norm: OrNone[Positive] = doc("largest norm of a network's gradient; larger ones are scaled down to it")
    pad: Auto[Annotated[int, Field(ge=0, le=256)]] = doc(
        "pixels of padding from which a random crop is taken; auto: an eighth of the shorter side, 1 for digits, 0 for "
        "tables (streamed images get a crop of random size instead)"
    )
    flip: Auto[bool] = doc(
        "mirror half of the images at random; auto: true, but not for digits and tables. Set false where left and "
        "right differ, as in text"
    )
    augment: Literal["none", "trivial", "rand"] = doc(
        "trivial: TrivialAugment, one operation of random strength; rand: RandAugment, two operations of strength 9/30"
    )
    random_erasing: Fraction = doc("probability that a random rectangle of a training image is erased")
    seed: Seed = doc("seed of the teacher and the assistants where teacher.per_seed is false")
    precision: Literal["fp32", "tf32", "bf16"] = doc("tf32 requires an NVIDIA GPU (Ampere or newer); bf16 is autocast")
    compile: bool = doc(
        "compile every network with torch.compile; takes minutes once a process and requires a C++ compiler; on a GPU "
        "it uses CUDA graphs and requires PyTorch 2.15"
    )
    sync_batchnorm: bool = doc("compute BatchNorm statistics over the global batch of all GPUs")
    logit_store: Literal["off", "fp16", "fp32"] = doc(
        "store the logits of frozen guides, so that a sweep runs each guide once; fp32 changes no bit of a result, "
        "fp16 rounds the logits"
    )


class Teacher(Section):
    """The center teacher."""

    arch: Arch = doc(ARCH)
    pretrained: bool = doc("start from the pretrained weights of timm")
    checkpoint: OrNone[PathText] = doc(
        "start from the weights in this file (safetensors or torch); only a head that is trained may not fit"
    )
    epochs: Auto[CountOrZero] = doc("0 takes the weights as they are; auto: train.epochs")
    per_seed: bool = doc(
        "train the teacher and its assistants once for each of seeds, so that the spread of a method contains theirs; "
        "false: once, from train.seed, for all seeds"
    )

    @property
    def shared(self) -> bool:
        """Whether all seeds have the same teacher: it is trained once, or its weights are taken as they are."""
        return not self.per_seed or self.epochs == 0


class Student(Section):
    """The network that every method except Cooperative trains for use."""

    arch: Arch = doc(ARCH)
    after: Name = doc("last network of the chain that guides the student: teacher or an assistant")


class Assistant(Section):
    """A teacher assistant: one network of the chain between teacher and student."""

    arch: Arch = doc(ARCH)
    after: Name = doc("its predecessor in the chain: teacher or another assistant")


class Entry(Section):
    """A method to train, evaluate and report."""

    is_: Text = Field(alias="is", description="file in pipeline/methods that implements it")
    after: Text = doc("bundle of networks that it starts from")
    control: bool = Field(default=False, description="report it in the table of controls; optional, default `false`")
    against: OrNone[Name | Annotated[list[Name], Field(min_length=1, max_length=20)]] = Field(
        default=None,
        description="the control that its gain must exceed, another entry, or a list of them; optional, default `none`",
    )

    weights_of: OrNone[Name] = Field(
        default=None,
        description="of a control: the entry whose loss weights it has (docs/methods.md). `stages.tune --write` sets "
        "them with those of that entry, and the report warns if they differ; optional, default `none`",
    )

    @property
    def controls(self) -> tuple[str, ...]:
        """The entries that `against` names."""
        if self.against is None:
            return ()
        return (self.against,) if isinstance(self.against, str) else tuple(self.against)


class Export(Section):
    """The student to export."""

    method: Name = doc("entry of methods whose student is exported; of its seeds, the best on validation")
    weights: Literal["last", "best"] = doc("weights after the last epoch, or of the best epoch on validation")


class Report(Section):
    """The comparison."""

    reference: Name = doc("entry of methods with which the others are compared")
    margin: float = doc("percentage points below which a difference counts as equivalent", gt=0, le=100)


class Tune(Section):
    """How `python -m stages.tune` searches the parameters of a method on the validation split."""

    trials: int = doc("sets of parameters that each method may try, those of params.yaml included", ge=1, le=10_000)
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=100)] = doc(
        "the student of a trial is trained for each of these; none of them may be in `seeds`"
    )
    epochs: Auto[Count] = doc("epochs of a trial; auto: train.epochs")
    teacher_seed: Auto[Seed] = doc(
        "one of `seeds`: its teacher, chain, group and members guide every trial; auto: the first of them"
    )


class Runtime(Section):
    """How results are computed, not which; no stage depends on this section."""

    threads: int = doc("OpenMP threads of each process; on a busy machine one can be far faster than two", ge=1, le=256)
    num_processes: int = doc("processes that train together, one for each device; they share the batch", ge=1, le=1024)
    workers: int = doc("additional threads that decode images, in `prepare` and of streamed data", ge=0, le=256)
    tracker: Literal["none", "tensorboard"] = doc("a live log of losses and accuracies, in runs/; changes no result")
    checkpoint_minutes: Positive = doc("minutes between checkpoints; the end of each epoch is checkpointed too")
    checkpoint_gib: Positive = doc(
        "size limit of finished and stopped runs in GiB; the least recently used are removed"
    )
    logit_store_gib: NotNegative = doc("size limit of the stored logits in GiB; the least recently used are removed")

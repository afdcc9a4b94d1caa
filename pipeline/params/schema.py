"""Every parameter: its name, type, bounds and meaning. There are no defaults: every key is in params.yaml."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from pipeline.params.value_types import (
    MOST_SHARDS,
    Arch,
    Auto,
    Count,
    CountOrZero,
    Fraction,
    Group,
    Images,
    InnerFraction,
    Name,
    NotNegative,
    OrNone,
    PathText,
    Positive,
    Seed,
    Shard,
    Temperature,
    Text,
)

ARCH = "network of timm or of the zoo"


def doc(meaning: str, **bounds: Any) -> Any:
    """A field with its meaning, for the page of parameters, and its bounds."""
    return Field(description=meaning, **bounds)


class Section(BaseModel):
    """A mapping in params.yaml. Strict: "0.1" is not a number, true is not an integer, unknown keys are errors.

    stage_keys: keys of a method's section that a stage reads for itself, so the method's dataclass does not have them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    stage_keys: ClassVar[frozenset[str]] = frozenset()


class Data(Section):
    """Where the images come from, and how `prepare` splits them."""

    source: Literal["digits", "fashion_mnist", "cifar10", "cifar100", "folder", "parquet", "imagenet"] = doc(
        "digits is part of scikit-learn; torchvision downloads fashion_mnist, cifar10 and cifar100 once; folder is "
        "ROOT/train/CLASS/*; parquet has the Hugging Face layout; imagenet is a streamed folder whose val is the test "
        "split"
    )
    root: PathText = doc("folder of the data; the pipeline depends on its content")
    storage: Auto[Literal["memory", "stream"]] = doc(
        "memory copies the images into arrays; stream decodes folder and imagenet during training, and root then holds "
        "their manifest (python -m stages.manifest); auto: stream for imagenet, memory for the others"
    )
    image_size: Auto[Annotated[int, Field(ge=1, le=4096)]] = doc(
        "height and width in pixels; auto: 224 for imagenet, else the size of the images"
    )
    limit: Auto[Images] = doc("number of training images to keep, stratified; auto: 400 for digits, else all")
    validation: Auto[Images | InnerFraction] = doc(
        "validation images to split off the training data, stratified: a number or a fraction; auto: 400 for digits, "
        "else 0.1"
    )
    seed: Seed = doc("seed of the split")
    on_error: Literal["fail", "skip"] = doc("what to do with a file that is not a readable image")
    image_column: Auto[Text] = doc("parquet: the column of images; auto: detect it")
    label_column: Auto[Text] = doc("parquet: the column of labels; auto: detect it")


class Train(Section):
    """How every network is trained."""

    epochs: Count = doc("passes over the training images in each leg of a run")
    batch_size: int = doc("images in a batch, summed over all processes; at least two for each", ge=2, le=1_000_000)
    lr: float = doc("learning rate of SGD", gt=0, le=100)
    schedule: Literal["cosine", "step", "constant"] = doc("how the learning rate decays")
    milestones: list[InnerFraction] = doc(
        "for schedule step: fractions of a leg after which gamma applies", max_length=100
    )
    gamma: float = doc("for schedule step: factor of the learning rate at each milestone", gt=0, le=1)
    warmup_epochs: CountOrZero = doc("epochs in which the learning rate rises linearly")
    momentum: float = doc("momentum of SGD", ge=0, lt=1)
    nesterov: bool = doc("Nesterov momentum; requires momentum > 0")
    weight_decay: Fraction = doc("weight decay of SGD, applied to all weights")
    pad: Auto[Annotated[int, Field(ge=0, le=256)]] = doc(
        "pixels of padding from which a random crop is taken; auto: by the source (streamed images get a crop of "
        "random size instead)"
    )
    flip: Auto[bool] = doc("mirror half of the images at random; auto: by the source")
    seed: Seed = doc("seed of the networks that are trained once: the teacher and the assistants")
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
        "start from the weights in this file (safetensors or torch), whose shapes must fit"
    )
    epochs: Auto[CountOrZero] = doc("0 takes the weights as they are; auto: train.epochs")


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


class Export(Section):
    """The student to export."""

    method: Name = doc("entry of methods whose student is exported; of its seeds, the best on validation")
    weights: Literal["last", "best"] = doc("weights after the last epoch, or of the best epoch on validation")


class Runtime(Section):
    """How results are computed, not which; no stage depends on this section."""

    threads: int = doc("OpenMP threads of each process; on a busy machine one can be far faster than two", ge=1, le=256)
    num_processes: int = doc("processes that train together, one for each device; they share the batch", ge=1, le=1024)
    workers: int = doc("additional threads that decode images, in `prepare` and of streamed data", ge=0, le=256)
    checkpoint_minutes: Positive = doc("minutes between checkpoints; the end of each epoch is checkpointed too")
    checkpoint_gib: Positive = doc("size limit of the checkpoint store in GiB; the least recently used are removed")
    logit_store_gib: NotNegative = doc("size limit of the stored logits in GiB; the least recently used are removed")


class Scratch(Section):
    """Training without a teacher."""

    label_smoothing: float = doc("weight of the uniform distribution in the target", ge=0, lt=1)


class KD(Section):
    """Distillation from one teacher."""

    temperature: Temperature = doc("softmax temperature tau")
    alpha: Fraction = doc("weight of the KD term; cross-entropy has 1 - alpha")
    scale: Positive = doc("factor of the whole loss; set to the number of guides, it matches the total weight of DGKD")


class Average(KD):
    """Distillation from the mean of the probabilities of a chain."""


class TAKD(Section):
    """Distillation from the predecessor in the chain."""

    temperature: Temperature = doc("softmax temperature tau")
    lam: Fraction = doc("weight lambda of the KD term; cross-entropy has 1 - lam")


class DGKD(Section):
    """Distillation from all earlier networks of the chain."""

    temperature: Temperature = doc("softmax temperature tau")
    lam: Fraction | Annotated[dict[Name, Fraction], Field(max_length=101)] = doc(
        "weight lambda: one number, or one for each guide (lambda_1..lambda_n)"
    )
    normalise: Literal["sum", "mean"] = doc("sum: the equation of the paper; mean: divide it by the number of guides")
    survival: Fraction = doc("probability p that a guide is kept for a batch, b_i ~ Bernoulli(p); 1 is plain DGKD")
    drop_teacher: bool = doc("drop the teacher at random too, as the published code does")


class DML(Section):
    """Mutual learning of peers."""

    temperature: Temperature = doc("softmax temperature tau; 1 in the paper")
    weight: NotNegative = doc("weight of the mean KL divergence to the other peers; 1 in the paper")
    peers: Auto[Group] = doc("peers of the student, name -> architecture; auto: those of the assistants")


class Teachings(Section):
    """Which of ORC's three teachings are on."""

    intensive: bool = doc("the pivot learns from mixup with feedback (L_1); if false it stays frozen")
    private: bool = doc("the temporary teacher learns from the pivot (L_P); if false from cross-entropy alone")
    group: bool = doc("the others learn from temporary teacher and pivot (L_T); if false from cross-entropy alone")


class ORC(Section):
    """Online role change."""

    beta: Fraction = doc("weight beta of the KD terms; cross-entropy has 1 - beta")
    temperature: Temperature = doc("softmax temperature tau")
    mixup_alpha: float = doc("the mixing weight is drawn from Beta(mixup_alpha, mixup_alpha)", ge=0.001, le=1000)
    pivot_lr_scale: NotNegative = doc("factor of the learning rate of the pivot")
    promoted: Count = doc("number k of temporary teachers in each batch; 1 in the paper")
    feedback: Literal["loss", "errors"] = doc("feedback images are drawn in proportion to the loss, or to the errors")
    teachings: Teachings = doc("which teachings are on, as in the ablation of the paper")
    guidance: Literal["individual", "ensemble"] = doc("one KD term for each teacher, or one for their mean logits")
    group: Auto[Group] = doc("the other students, name -> architecture; auto: those of the assistants")


class Member(Section):
    """A member of a cooperative group."""

    arch: Arch = doc(ARCH)
    lacks: list[CountOrZero | Text] = doc("classes without training images, by label or by name", max_length=50_000)
    keeps: Annotated[float, Field(gt=0, le=1)] | Shard = doc(
        f"fraction of the images of the other classes, or shard i/n of them; n is at most {MOST_SHARDS}"
    )


class MembersByRule(Section):
    """Members that are made by a rule instead of a list."""

    auto: int = doc("number of members with the architecture of the student; member k lacks class k", ge=2, le=1000)


def kind_of_members(value: Any) -> str:
    """Whether members are given by rule or by name. No key of theirs is one of these words with a space."""
    if isinstance(value, dict):
        return "by rule" if "auto" in value and not isinstance(value["auto"], dict) else "by name"
    return "by rule" if isinstance(value, MembersByRule) else "by name"


class CooperativeControl(Section):
    """Cooperative distillation among the members of the section `cooperative`."""

    expertise: Literal["instance", "class"] = doc("whether a member is an expert in instances or in classes")
    class_recall: float = doc("for expertise class: the recall from which a member is an expert", gt=0, le=1)
    source: Literal["pooled", "own"] = doc("teach on the images of all members, or on the images of the teacher")
    alpha: Fraction = doc("how far the target moves from f(x) to the label")
    steps: Count = doc("maximum number of Adam steps on the pixels")
    step_size: Positive = doc("learning rate of Adam, in normalised pixels")
    proximity: NotNegative = doc("weight of the distance |x' - x|_1")
    tolerance: NotNegative = doc("stop when every class of f(x') is this close to the target")
    counterfactual_of: Literal["teacher", "student"] = doc("whose f to use: f_i of the teacher or f_j of the student")
    pool: Literal["counterfactual", "raw", "noise", "random", "none"] = doc("images that join the training set")


class Cooperative(CooperativeControl):
    """Cooperative distillation."""

    stage_keys = frozenset({"members"})
    members: Annotated[
        Annotated[MembersByRule, Tag("by rule")]
        | Annotated[dict[Name, Member], Tag("by name"), Field(min_length=2, max_length=1000)],
        Discriminator(kind_of_members),
    ] = doc("name -> arch, lacks, keeps; or auto: K for K members")


FIXED: dict[str, Any] = {
    "data": Data,
    "train": Train,
    "teacher": Teacher,
    "assistants": Annotated[dict[Name, Assistant], Field(max_length=100)],
    "student": Student,
    "seeds": Annotated[list[Seed], Field(min_length=1, max_length=1000)],
    "methods": Annotated[dict[Name, Entry], Field(min_length=1, max_length=500)],
    "export": Export,
    "runtime": Runtime,
}
KINDS: dict[str, type[Section]] = {
    "scratch": Scratch,
    "kd": KD,
    "dml": DML,
    "takd": TAKD,
    "dgkd": DGKD,
    "average": Average,
    "orc": ORC,
    "cooperative": Cooperative,
}
"""The schema of each method's section. A new method adds its line here and its file to pipeline/methods."""


def schema_of(section: str, kind: str) -> type[Section]:
    """The schema of a method's section. Controls of Cooperative share the members of the section `cooperative`."""
    return CooperativeControl if kind == "cooperative" and section != "cooperative" else KINDS[kind]

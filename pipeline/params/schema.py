"""Every parameter: its name, type, bounds and meaning. There are no defaults: every key is in params.yaml."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$", description="letters, digits, _ and -")]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


def doc(meaning: str, **bounds: Any) -> Any:
    return Field(description=meaning, **bounds)


class Section(BaseModel):
    """A mapping in params.yaml. Strict: "0.1" is no number, true is no integer; an unknown key is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Data(Section):
    """Where images come from; what `prepare` makes of them."""

    source: Literal["digits", "fashion_mnist", "cifar10", "cifar100", "folder", "parquet", "imagenet"] = doc(
        "digits is inside scikit-learn; fashion_mnist, cifar10, cifar100 are torchvision's, downloaded once; "
        "folder is ROOT/train/CLASS/*; parquet has the Hugging Face layout; imagenet is a streamed folder whose val "
        "is the test split"
    )
    root: str = doc("folder of the data; its content is a dependency of the pipeline", min_length=1)
    storage: Literal["memory", "stream"] | None = doc(
        "memory: images are copied as arrays; stream: folder and imagenet are decoded while training, and root holds "
        "their manifest (python -m stages.manifest); null: the source's own (imagenet stream, others memory)"
    )
    image_size: Count | None = doc("height and width in pixels; null: the source's own (imagenet 224), or the images'")
    limit: Count | None = doc("training images kept, stratified; null: the source's own (digits 400, others all)")
    validation: Count | Annotated[float, Field(gt=0, lt=1)] | None = doc(
        "validation images split off the training data, stratified: a number or a fraction; null: the source's own "
        "(digits 400, others 0.1)"
    )
    seed: int = doc("decides the split", ge=0)
    on_error: Literal["fail", "skip"] = doc("what happens at a file that is no readable image")
    image_column: str | None = doc("parquet: the column of images; null: found")
    label_column: str | None = doc("parquet: the column of labels; null: found")


class Train(Section):
    """How every network is trained."""

    epochs: Count = doc("passes over the training images, for each leg of a run")
    batch_size: Count = doc("images in a batch, over all processes together")
    lr: Positive = doc("learning rate of SGD")
    schedule: Literal["cosine", "step", "constant"] = doc("how the learning rate falls")
    milestones: list[Annotated[float, Field(gt=0, lt=1)]] = doc("step: fractions of the run at which gamma applies")
    gamma: float = doc("step: factor of the learning rate at a milestone", gt=0, le=1)
    warmup_epochs: int = doc("epochs in which the learning rate rises linearly", ge=0)
    momentum: float = doc("of SGD", ge=0, lt=1)
    nesterov: bool = doc("Nesterov's momentum; needs momentum > 0")
    weight_decay: NotNegative = doc("of SGD, on all weights")
    pad: Annotated[int, Field(ge=0)] | None = doc(
        "pixels around an image, of which a crop is taken; null: the data's (streamed images get a crop of random size)"
    )
    flip: bool | None = doc("mirror half of the images; null: the data's")
    seed: int = doc("of the networks that are trained once: teacher and assistants", ge=0)
    precision: Literal["fp32", "tf32", "bf16"] = doc("tf32: products of fp32 on an Ampere GPU; bf16: autocast")
    compile: bool = doc(
        "compile every network (minutes, once a process; needs a C++ compiler, and on a GPU PyTorch 2.15, whose CUDA "
        "graphs spare small networks the launches that they are bound by)"
    )
    sync_batchnorm: bool = doc("BatchNorm over the global batch of several GPUs, not each one's part")
    logit_store: Literal["off", "fp16", "fp32"] = doc(
        "keep what frozen guides say, so that a sweep runs them once; fp32 changes no bit of a result, fp16 rounds"
    )


class Teacher(Section):
    """The center teacher."""

    arch: str = doc("a network of timm or of the zoo")
    pretrained: bool = doc("start from timm's pretrained weights")
    checkpoint: str | None = doc("start from this file (safetensors or torch); its shapes must fit")
    epochs: Annotated[int, Field(ge=0)] | None = doc("null: train.epochs; 0: take the weights as they are")


class Student(Section):
    """The network that every method but Cooperative ends in."""

    arch: str = doc("a network of timm or of the zoo")
    after: Name = doc("the last network of the chain that it learns from: teacher or an assistant")


class Assistant(Section):
    """One link of the chains between teacher and student."""

    arch: str = doc("a network of timm or of the zoo")
    after: Name = doc("its predecessor: teacher or another assistant")


class Entry(Section):
    """One run of the comparison."""

    is_: str = Field(alias="is", description="the file in pipeline/methods that implements it")
    after: str = doc("the bundle that it starts from")


class Export(Section):
    """The student that is taken away."""

    method: Name = doc("an entry of methods that ends in a student; of its seeds the best on validation")
    weights: Literal["last", "best"] = doc("those after the last epoch, or the best on validation")


class Runtime(Section):
    """How, not what, is computed; no stage depends on it."""

    threads: Count = doc("OpenMP threads of a process; two on a contended core can be many times slower than one")
    num_processes: Count = doc("processes that share a run, one a device; the batch is split among them")
    workers: int = doc("threads that decode images, in `prepare` and for streamed sets; 0: none besides its own", ge=0)
    checkpoint_minutes: Positive = doc("a checkpoint is written at every epoch's end, and after so many minutes")
    checkpoint_gib: Positive = doc("size of the checkpoint store, GiB; the runs used longest ago go first")
    logit_store_gib: NotNegative = doc("size of the store of guides' logits, GiB; those used longest ago go first")


class Scratch(Section):
    """Training without a teacher."""

    label_smoothing: float = doc("weight of the uniform law in the target", ge=0, lt=1)


class KD(Section):
    """Distillation from one teacher."""

    temperature: Positive = doc("tau")
    alpha: Fraction = doc("weight of the teacher's term; cross-entropy has 1 - alpha")
    scale: Positive = doc("factor of the whole loss; the number of a chain's guides makes it DGKD's total weight")


class Average(KD):
    """Distillation from the mean of a chain's probabilities."""


class TAKD(Section):
    """Distillation from the predecessor."""

    temperature: Positive = doc("tau")
    lam: Fraction = doc("lambda: weight of the predecessor's term; cross-entropy has 1 - lam")


class DGKD(Section):
    """Distillation from every earlier network of the chain."""

    temperature: Positive = doc("tau")
    lam: Fraction | dict[Name, Fraction] = doc("lambda: one number, or a number for each guide (lambda_1..lambda_n)")
    normalise: Literal["sum", "mean"] = doc("sum: the paper's equation; mean: divided by the number of guides")
    survival: Fraction = doc("p of b_i ~ Bernoulli(p), a guide's survival in a batch; 1 is plain DGKD")
    drop_teacher: bool = doc("drop the teacher too, as the published code does")


class DML(Section):
    """Mutual learning of peers."""

    temperature: Positive = doc("tau; 1 in the paper")
    weight: NotNegative = doc("of the mean KL to the other peers; 1 in the paper")
    peers: dict[Name, str] | None = doc("name -> architecture of the student's peers; null: the assistants'")


class Teachings(Section):
    """Which of ORC's three teachings happen."""

    intensive: bool = doc("the pivot learns from mixup with feedback (L_1); else it stays frozen")
    private: bool = doc("the temporary teacher learns from the pivot (L_P); else by cross-entropy")
    group: bool = doc("the others learn from temporary teacher and pivot (L_T); else by cross-entropy")


class ORC(Section):
    """Online role change."""

    beta: Fraction = doc("beta: weight of the KD terms; cross-entropy has 1 - beta")
    temperature: Positive = doc("tau")
    mixup_alpha: Positive = doc("mixup's lambda ~ Beta(mixup_alpha, mixup_alpha)")
    pivot_lr_scale: NotNegative = doc("factor of the pivot's learning rate")
    promoted: Count = doc("k: temporary teachers in a batch; 1 in the paper")
    feedback: Literal["loss", "errors"] = doc("feedback is drawn in proportion to the students' losses, or errors")
    teachings: Teachings = doc("the paper's ablation")
    guidance: Literal["individual", "ensemble"] = doc("a KD term for each teacher, or one to their mean logits")
    group: dict[Name, str] | None = doc("name -> architecture of the other students; null: the assistants'")


class Member(Section):
    """A member of a cooperative group."""

    arch: str = doc("a network of timm or of the zoo")
    lacks: list[Annotated[int, Field(ge=0)] | str] = doc("classes that it does not see, by label or by name")
    keeps: Annotated[float, Field(gt=0, le=1)] | Annotated[str, Field(pattern=r"^[1-9]\d*/[1-9]\d*$")] = doc(
        "fraction of the images of the other classes, or the shard i/n of them"
    )


class Auto(Section):
    """Members made by rule."""

    auto: int = doc("so many members of the student's architecture; the k-th lacks class k", ge=2)


def kind_of_members(value: Any) -> str:
    return "auto" if isinstance(value, dict) and "auto" in value and not isinstance(value["auto"], dict) else "named"


class CooperativeControl(Section):
    """Cooperative distillation among the members of section `cooperative`."""

    expertise: Literal["instance", "class"] = doc("what S_i holds: instances, or classes")
    class_recall: float = doc("class: recall from which a member is expert in a class", gt=0, le=1)
    source: Literal["pooled", "own"] = doc("over all images of the members, or the teacher's own")
    alpha: Fraction = doc("alpha: how far the target moves from f(x) to the label")
    steps: Count = doc("of Adam on the pixels, at most")
    step_size: Positive = doc("of Adam, in normalised pixels")
    proximity: NotNegative = doc("weight of the distance |x' - x|_1")
    tolerance: NotNegative = doc("an image has arrived when f(x') is so near y' in every class")
    counterfactual_of: Literal["teacher", "student"] = doc("whose f: the teacher's f_i or the student's f_j")
    pool: Literal["counterfactual", "raw", "noise", "random", "none"] = doc("what joins the training set")


class Cooperative(CooperativeControl):
    """Cooperative distillation."""

    members: Annotated[
        Annotated[Auto, Tag("auto")] | Annotated[dict[Name, Member], Tag("named"), Field(min_length=2)],
        Discriminator(kind_of_members),
    ] = doc("name -> arch, lacks, keeps; or auto: K")


FIXED: dict[str, Any] = {
    "data": Data,
    "train": Train,
    "teacher": Teacher,
    "student": Student,
    "assistants": dict[Name, Assistant],
    "methods": Annotated[dict[Name, Entry], Field(min_length=1)],
    "seeds": Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)],
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
"""A method's section is of its kind: add a method's schema here, and its file to pipeline/methods."""


def schema_of(section: str, kind: str) -> type[Section]:
    """The schema of a method's section. Controls of Cooperative share the members of section `cooperative`."""
    return CooperativeControl if kind == "cooperative" and section != "cooperative" else KINDS[kind]

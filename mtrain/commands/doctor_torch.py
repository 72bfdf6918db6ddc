"""torch as `mtrain doctor` examines it: whether it works, its GPU, its threads, its precision.

Imports torch in functions: it may be broken, and that is a row.
"""

import importlib
import re
import shutil
import subprocess
import sysconfig
import warnings
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtrain.commands.doctor_packages import is_fit, with_bounds
from mtrain.commands.doctor_row import BROKEN, NOTE, Row, pip
from mtrain.runtime.environment import (
    available_cores,
    c_compiler,
    cuda_visible_devices,
    omp_num_threads,
)

if TYPE_CHECKING:
    from packaging.requirements import Requirement

GPU_DEVICE = Path("/dev/nvidia0")
SECONDS_FOR_DRIVER = 5.0
# of a package that is incomplete, lacks a library, or was built for another Python or NumPy
IMPORT_ERRORS = (
    *(ImportError, OSError, RuntimeError, AttributeError),
    *(NameError, SyntaxError, TypeError, ValueError),
)


def torch_rows(required: "Requirement | None") -> list[Row]:
    """Return the rows of torch and of what it computes on; its row alone if it does not work."""
    wanted = with_bounds(required) if required else "torch"
    if find_spec("torch") is None:
        return [Row("torch", "not installed", BROKEN, pip("install", wanted))]
    try:
        torch = importlib.import_module("torch")
        version = str(torch.__version__)
        is_fitting = required is None or is_fit(version, required)
        if is_fitting:
            torch.ones(1).sum().item()
    except IMPORT_ERRORS as error:
        told = (str(error).splitlines() or [""])[0]
        found = f"cannot be imported: {type(error).__name__}: {told}"
        return [Row("torch", found, BROKEN, _mend_torch(wanted))]
    if not is_fitting:
        return [Row("torch", f"{version}, but mtrain needs {wanted}", BROKEN, _mend_torch(wanted))]
    row = Row("torch", f"{version}, built for {_build(torch)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a row says why torch cannot use a GPU
        return [row, *_machine_rows(torch, wanted)]


def gpu_row(torch: Any, wanted: str) -> Row:
    """Return the GPU that torch computes on, or why there is none; `wanted` is a requirement."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        is_available = torch.cuda.is_available()
    if is_available:
        return _working_gpu(torch)
    seen = _nvidia_gpus()
    if not seen:
        return Row("GPU", "none found; mtrain computes on the CPU")
    if torch.version.cuda is None:
        index = "--index-url=https://pypi.org/simple"  # of CUDA builds
        mend = f"{pip('uninstall', '--yes', 'torch')} && {pip('install', index, wanted)}"
        return Row("GPU", f"{seen}, but torch is built for {_build(torch)}", NOTE, mend)
    if cuda_visible_devices() is not None:
        found = f"{seen}, but CUDA_VISIBLE_DEVICES={cuda_visible_devices()} hides it"
        return Row("GPU", found, NOTE, "unset CUDA_VISIBLE_DEVICES")
    reason = str(caught[0].message).split("\n")[0] if caught else "it gives no reason"
    mend = (
        "update NVIDIA's driver, or install torch for the CUDA version that nvidia-smi shows: "
        "https://pytorch.org/get-started/locally/"
    )
    return Row("GPU", f"{seen}, but torch cannot use it: {reason}", NOTE, mend)


def _machine_rows(torch: Any, wanted: str) -> list[Row]:
    rows = [gpu_row(torch, wanted)]
    if torch.cuda.is_available():
        rows.append(compiler_row())
    rows.append(cpu_row(available_cores(), torch.get_num_threads(), omp_num_threads()))
    if rows[0].status != BROKEN:
        rows.append(_precision())
    return rows


def compiler_row() -> Row:
    """Return the C compiler with which torch compiles layers for a GPU."""
    header = Path(sysconfig.get_path("include")) / "Python.h"
    compiler = c_compiler()
    if compiler is not None and header.is_file():
        return Row("C compiler", compiler)
    missing = f"Python's headers are missing ({header})" if compiler else "none found"
    mend = "install gcc and python3-dev, or write training.compile_layers: false"
    return Row("C compiler", f"{missing}; torch compiles layers with it", NOTE, mend)


def cpu_row(cores: int, threads: int, omp: str | None) -> Row:
    """Return the cores of this process and torch's threads, which OMP_NUM_THREADS (`omp`) sets."""
    found = f"cores of this process: {cores}, intra-op threads: {threads}"
    found += f" (OMP_NUM_THREADS={omp})" if omp else " (OMP_NUM_THREADS is not set)"
    if threads > cores:
        return Row("CPU", found, NOTE, f"export OMP_NUM_THREADS={cores}")
    if omp and threads < cores:
        return Row("CPU", found, NOTE, "unset OMP_NUM_THREADS")
    return Row("CPU", found)


def _build(torch: Any) -> str:
    if torch.version.cuda:
        return f"CUDA {torch.version.cuda}"
    return f"ROCm {torch.version.hip}" if torch.version.hip else "the CPU"


def _working_gpu(torch: Any) -> Row:
    """Multiply on the current GPU; torch may lack code for it, or another process may own it."""
    device = torch.cuda.current_device()
    found = torch.cuda.get_device_name(device)
    if (count := torch.cuda.device_count()) > 1:
        found += f", one of {count}"
    try:
        free, total = torch.cuda.mem_get_info(device)
        ones = torch.ones(8, 8, device=f"cuda:{device}")
        (ones @ ones).sum().item()
    except RuntimeError as error:
        told = (str(error).splitlines() or [""])[0]
        on_cpu = "export CUDA_VISIBLE_DEVICES=  # to compute on the CPU"
        return Row("GPU", f"{found}, which fails: {told}", BROKEN, on_cpu)
    return Row("GPU", f"{found}, {total / 2**30:.0f} GiB of memory, {free / 2**30:.0f} GiB free")


def _nvidia_gpus() -> str:
    """Return the names of the GPUs that NVIDIA's driver lists; nothing without one."""
    if (program := shutil.which("nvidia-smi")) is not None:
        try:
            listed = subprocess.run(
                [program, "-L"],
                capture_output=True,
                text=True,
                timeout=SECONDS_FOR_DRIVER,
                check=False,
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            listed = ""
        if names := re.findall(r"^GPU \d+: (.+?)(?: \(UUID.*)?$", listed, re.MULTILINE):
            return ", ".join(names)
    return f"an NVIDIA GPU ({GPU_DEVICE})" if GPU_DEVICE.exists() else ""


def _mend_torch(wanted: str) -> str:
    """Return how to mend a torch that is broken or too old: it may hide the installed one."""
    spec = find_spec("torch")
    try:
        installed = metadata.distribution("torch").locate_file("torch/__init__.py")
    except metadata.PackageNotFoundError:
        return pip("install", wanted)
    if spec is not None and spec.origin and Path(spec.origin) != Path(str(installed)):
        return f"rename {spec.origin}, which hides the installed torch, or leave it off PYTHONPATH"
    return f"{pip('uninstall', '--yes', 'torch')} && {pip('install', wanted)}"


def _precision() -> Row:
    """Return the precision of training and translation; on a CPU, bf16's speed is measured."""
    from mtrain.runtime.precision import choose_precision

    training = choose_precision("auto", "auto", for_training=True)
    translation = choose_precision("auto", "auto")
    found = f"training in {training.name} ({training.reason}), translation in {translation.name}"
    return Row("precision", found)

"""What NVIDIA's management library knows of the GPUs, read for the sampler; the machine without one pays nothing."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

COLUMNS = (
    *("utilisation", "memory_utilisation", "memory_used", "power", "energy", "sm_clock", "memory_clock"),
    *("throttle", "sent", "received", "temperature"),
)
"""Of each GPU: %, %, bytes, W, J since the driver started, MHz, MHz, bit mask, KB/s over PCIe both ways, Celsius."""


class Gpus:
    """The GPUs of this machine; about 1 ms a GPU and sample."""

    def __init__(self, library: Any) -> None:
        """`library` is the module pynvml, initialised."""
        self._nvml = library
        self._handles = [library.nvmlDeviceGetHandleByIndex(each) for each in range(library.nvmlDeviceGetCount())]

    @classmethod
    def found(cls) -> Self | None:
        """The GPUs, or None where there is no driver: asked of the device file first, an import costs 30 ms."""
        if not Path("/dev/nvidiactl").exists():
            return None
        import pynvml

        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return None
        return cls(pynvml)

    def facts(self) -> list[dict[str, Any]]:
        """Name and memory in bytes of each."""
        nvml = self._nvml
        return [
            {"name": nvml.nvmlDeviceGetName(each), "memory": nvml.nvmlDeviceGetMemoryInfo(each).total}
            for each in self._handles
        ]

    def sample(self) -> list[list[float | None]]:
        """`COLUMNS` of each GPU; None where the card does not tell."""
        return [self._of(each) for each in self._handles]

    def _of(self, handle: Any) -> list[float | None]:
        nvml = self._nvml
        values: dict[str, float] = {}
        readings: dict[str, Callable[[], float]] = {
            "power": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
            "energy": lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3,
            "memory_used": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used,
            "sm_clock": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            "memory_clock": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
            "throttle": lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle),
            "sent": lambda: nvml.nvmlDeviceGetPcieThroughput(handle, nvml.NVML_PCIE_UTIL_TX_BYTES),
            "received": lambda: nvml.nvmlDeviceGetPcieThroughput(handle, nvml.NVML_PCIE_UTIL_RX_BYTES),
            "temperature": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
        }
        with suppress(nvml.NVMLError):
            rates = nvml.nvmlDeviceGetUtilizationRates(handle)
            values = {"utilisation": rates.gpu, "memory_utilisation": rates.memory}
        for name, read in readings.items():
            with suppress(nvml.NVMLError):
                values[name] = read()
        return [values.get(name) for name in COLUMNS]

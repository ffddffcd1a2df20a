"""What the peers on a GPU share: how they are run, and when a run is over. With --device cpu they run here too, to be tried."""

import argparse
import contextlib

import torch
import torchvision

MODES = ["eager", "channels_last", "compile"]


class Accelerator:
    """A device and a mode: eager f32, channels-last with autocast to bf16, or that and torch.compile."""

    def __init__(self, mode, device):
        self.mode, self.device = mode, torch.device(device)
        self.is_cuda = self.device.type == "cuda"
        # As a person who wants speed sets it.
        torch.backends.cudnn.benchmark = True
        torch.manual_seed(0)

    def place(self, model):
        """The model where and how it runs."""
        model = model.to(self.device)
        return model if self.mode == "eager" else model.to(memory_format=torch.channels_last)

    def compiled(self, module):
        return torch.compile(module) if self.mode == "compile" else module

    def autocast(self):
        if self.mode == "eager":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def synchronize(self):
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def upload(self, tensor):
        """A tensor of the host on the device; the copy may still be under way."""
        return tensor.to(self.device, non_blocking=True)

    def pinned(self, tensor):
        return tensor.pin_memory() if self.is_cuda else tensor

    def description(self):
        about = {"torch": torch.__version__, "torchvision": torchvision.__version__}
        if self.is_cuda:
            about |= {"device": torch.cuda.get_device_name(self.device), "cudnn": torch.backends.cudnn.version()}
        return about


def arguments(text, **numbers):
    """The mode, numbers with their defaults, and the device."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("mode", choices=MODES)
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cuda")
    return parser.parse_args()

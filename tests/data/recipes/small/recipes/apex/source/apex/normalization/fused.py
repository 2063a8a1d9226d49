"""FusedLayerNorm and FusedRMSNorm: importable without the CUDA module, not constructible."""

import importlib
import math
import numbers

import torch


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, shape, eps, memory_efficient):
        kernels = importlib.import_module("fused_layer_norm_cuda")
        x = x.contiguous()
        if weight is None:
            output, mean, inv_std = kernels.forward(x, shape, eps)
        else:
            output, mean, inv_std = kernels.forward_affine(x, shape, weight, bias, eps)
        saved = (output, None) if memory_efficient else (x, mean)
        ctx.save_for_backward(*saved, inv_std, weight, bias)
        ctx.rest = (shape, eps, memory_efficient)
        return output

    @staticmethod
    def backward(ctx, grad):
        kernels = importlib.import_module("fused_layer_norm_cuda")
        saved, mean, inv_std, weight, bias = ctx.saved_tensors
        shape, *rest = ctx.rest
        start = (grad.contiguous(), mean, inv_std, saved, shape)
        if weight is None:
            return kernels.backward(*start, *rest), None, None, None, None, None
        grads = kernels.backward_affine(*start, weight, bias, *rest)
        return (*grads, None, None, None)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, shape, eps, memory_efficient):
        kernels = importlib.import_module("fused_layer_norm_cuda")
        x = x.contiguous()
        if weight is None:
            output, inv_rms = kernels.rms_forward(x, shape, eps)
        else:
            output, inv_rms = kernels.rms_forward_affine(x, shape, weight, eps)
        ctx.save_for_backward(output if memory_efficient else x, inv_rms, weight)
        ctx.rest = (shape, eps, memory_efficient)
        return output

    @staticmethod
    def backward(ctx, grad):
        kernels = importlib.import_module("fused_layer_norm_cuda")
        saved, inv_rms, weight = ctx.saved_tensors
        shape, *rest = ctx.rest
        start = (grad.contiguous(), inv_rms, saved, shape)
        if weight is None:
            return kernels.rms_backward(*start, *rest), None, None, None, None
        grads = kernels.rms_backward_affine(*start, weight, *rest)
        return (*grads, None, None, None)


class _Norm(torch.nn.Module):
    """What both have in common: a shape, parameters or none, and the module they cannot do without."""

    has_bias = False

    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, memory_efficient=False):
        super().__init__()
        importlib.import_module("fused_layer_norm_cuda")  # a missing module shows here, not later
        if isinstance(normalized_shape, numbers.Integral):
            normalized_shape = (normalized_shape,)
        self.normalized_shape = tuple(int(size) for size in normalized_shape)
        self.eps = eps
        self.memory_efficient = memory_efficient
        weight = torch.nn.Parameter(torch.ones(self.normalized_shape)) if elementwise_affine else None
        self.register_parameter("weight", weight)
        if self.has_bias:
            bias = torch.nn.Parameter(torch.zeros(self.normalized_shape)) if elementwise_affine else None
            self.register_parameter("bias", bias)

    def extra_repr(self):
        return f"{self.normalized_shape}, eps={self.eps}, affine={self.weight is not None}"

    def cast(self, x, *parameters):
        """Input and parameters in the one dtype that the kernels take; autocast decides if it is on."""
        dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else x.dtype
        return x.to(dtype), *(p if p is None else p.to(dtype) for p in parameters)


class FusedLayerNorm(_Norm):
    """LayerNorm in one kernel on CUDA tensors; torch's own elsewhere."""

    has_bias = True

    def forward(self, x):
        if not x.is_cuda:
            return torch.nn.functional.layer_norm(
                x, self.normalized_shape, self.weight, self.bias, self.eps
            )
        x, weight, bias = self.cast(x, self.weight, self.bias)
        shape = list(self.normalized_shape)
        return _LayerNorm.apply(x, weight, bias, shape, self.eps, self.memory_efficient)


class FusedRMSNorm(_Norm):
    """RMSNorm in one kernel on CUDA tensors; a few torch calls elsewhere."""

    def forward(self, x):
        if not x.is_cuda:
            size = math.prod(self.normalized_shape)
            rows = x.float().reshape(-1, size)
            normalized = rows * torch.rsqrt(rows.square().mean(-1, keepdim=True) + self.eps)
            normalized = normalized.to(x.dtype).reshape(x.shape)
            return normalized if self.weight is None else normalized * self.weight
        x, weight = self.cast(x, self.weight)
        shape = list(self.normalized_shape)
        return _RMSNorm.apply(x, weight, shape, self.eps, self.memory_efficient)

// fused_layer_norm_cuda: the functions that Python calls, with the names and the order of arguments
// that users of such a module expect.
#include <torch/extension.h>

#include <vector>

#include "norm.h"

namespace {

using at::Tensor;
using Shape = std::vector<int64_t>;
using Tensors = std::vector<Tensor>;
using Maybe = std::optional<Tensor>;

Tensors forward(const Tensor& input, const Shape& shape, double eps) {
  const auto made = norm_forward(input, shape, std::nullopt, std::nullopt, eps, true);
  return {made.output, made.mean, made.inv_std};
}

Tensors forward_affine(const Tensor& input, const Shape& shape, const Tensor& weight,
                       const Tensor& bias, double eps) {
  const auto made = norm_forward(input, shape, weight, bias, eps, true);
  return {made.output, made.mean, made.inv_std};
}

Tensors rms_forward(const Tensor& input, const Shape& shape, double eps) {
  const auto made = norm_forward(input, shape, std::nullopt, std::nullopt, eps, false);
  return {made.output, made.inv_std};
}

Tensors rms_forward_affine(const Tensor& input, const Shape& shape, const Tensor& weight,
                           double eps) {
  const auto made = norm_forward(input, shape, weight, std::nullopt, eps, false);
  return {made.output, made.inv_std};
}

Tensor backward(const Tensor& grad, const Maybe& mean, const Tensor& inv_std, const Tensor& saved,
                const Shape& shape, double eps, bool memory_efficient) {
  return norm_backward(grad, mean, inv_std, saved, shape, std::nullopt, std::nullopt, eps,
                       memory_efficient, true)
      .input;
}

Tensors backward_affine(const Tensor& grad, const Maybe& mean, const Tensor& inv_std,
                        const Tensor& saved, const Shape& shape, const Tensor& weight,
                        const Tensor& bias, double eps, bool memory_efficient) {
  const auto made = norm_backward(grad, mean, inv_std, saved, shape, weight, bias, eps,
                                  memory_efficient, true);
  return {made.input, made.weight, made.bias};
}

Tensor rms_backward(const Tensor& grad, const Tensor& inv_std, const Tensor& saved,
                    const Shape& shape, double eps, bool memory_efficient) {
  return norm_backward(grad, std::nullopt, inv_std, saved, shape, std::nullopt, std::nullopt, eps,
                       memory_efficient, false)
      .input;
}

Tensors rms_backward_affine(const Tensor& grad, const Tensor& inv_std, const Tensor& saved,
                            const Shape& shape, const Tensor& weight, double eps,
                            bool memory_efficient) {
  const auto made = norm_backward(grad, std::nullopt, inv_std, saved, shape, weight, std::nullopt,
                                  eps, memory_efficient, false);
  return {made.input, made.weight};
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  module.def("forward", &forward, "LayerNorm: output, mean, inverse deviation");
  module.def("forward_affine", &forward_affine, "LayerNorm with weight and bias");
  module.def("backward", &backward, "LayerNorm: gradient of the input");
  module.def("backward_affine", &backward_affine, "LayerNorm: gradients of input, weight, bias");
  module.def("rms_forward", &rms_forward, "RMSNorm: output, inverse root of the mean square");
  module.def("rms_forward_affine", &rms_forward_affine, "RMSNorm with weight");
  module.def("rms_backward", &rms_backward, "RMSNorm: gradient of the input");
  module.def("rms_backward_affine", &rms_backward_affine, "RMSNorm: gradients of input, weight");
}

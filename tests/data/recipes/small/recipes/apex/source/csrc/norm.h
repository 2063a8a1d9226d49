// What the binding calls and the kernels' file defines.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "shapes.h"

struct Normalized {
  at::Tensor output;   // of the input's dtype
  at::Tensor mean;     // one float for a row; empty for RMS
  at::Tensor inv_std;  // one float for a row
};

struct Gradients {
  at::Tensor input;
  at::Tensor weight;  // undefined where there is no weight
  at::Tensor bias;    // undefined where there is no bias
};

Normalized norm_forward(const at::Tensor& input, at::IntArrayRef shape,
                        const std::optional<at::Tensor>& weight,
                        const std::optional<at::Tensor>& bias, double eps, bool centered);

// `saved` is the input, or the output where `is_output` (then `mean` is not needed).
Gradients norm_backward(const at::Tensor& grad, const std::optional<at::Tensor>& mean,
                        const at::Tensor& inv_std, const at::Tensor& saved, at::IntArrayRef shape,
                        const std::optional<at::Tensor>& weight,
                        const std::optional<at::Tensor>& bias, double eps, bool is_output,
                        bool centered);

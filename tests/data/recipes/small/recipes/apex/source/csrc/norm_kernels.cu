// Normalizing the rows of a matrix, forward and backward: one block for a row.
//
// The first header brings Python's headers and pybind11 along, which device code does not need. It
// stands here because real packages do it, and it is what makes such files slow to compile.
#include <torch/extension.h>

#include <ATen/Dispatch.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "norm.h"

namespace {

constexpr int kWarp = 32;
constexpr int kThreads = 256;

// The sum over a block, known to all its threads.
__device__ float block_sum(float value) {
  __shared__ float partial[kThreads / kWarp];
  for (int step = kWarp / 2; step > 0; step /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, step);
  }
  __syncthreads();  // the caller may have read `partial` of the sum before
  if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = value;
  __syncthreads();
  float total = 0.0f;
  for (int warp = 0; warp < kThreads / kWarp; ++warp) total += partial[warp];
  return total;
}

// y = (x - mean) * inv_std rounded to T, then * weight + bias in T; RMS has no mean.
template <typename T, bool kCentered>
__global__ void forward_rows(const T* x, const T* weight, const T* bias, T* y, float* means,
                             float* inv_stds, int64_t length, float eps) {
  const int64_t row = blockIdx.x;
  x += row * length;
  y += row * length;
  float mean = 0.0f;
  if (kCentered) {
    float sum = 0.0f;
    for (int64_t i = threadIdx.x; i < length; i += kThreads) sum += static_cast<float>(x[i]);
    mean = block_sum(sum) / length;
  }
  float squares = 0.0f;
  for (int64_t i = threadIdx.x; i < length; i += kThreads) {
    const float centered = static_cast<float>(x[i]) - mean;
    squares += centered * centered;
  }
  const float inv_std = rsqrtf(block_sum(squares) / length + eps);
  for (int64_t i = threadIdx.x; i < length; i += kThreads) {
    T value = static_cast<T>((static_cast<float>(x[i]) - mean) * inv_std);
    if (weight) value = static_cast<T>(static_cast<float>(value) * static_cast<float>(weight[i]));
    if (bias) value = static_cast<T>(static_cast<float>(value) + static_cast<float>(bias[i]));
    y[i] = value;
  }
  if (threadIdx.x == 0) {
    if (kCentered) means[row] = mean;
    inv_stds[row] = inv_std;
  }
}

// What a backward kernel reads: the input with its statistics, or the output alone.
template <typename T>
struct Saved {
  const T* values;
  const T* weight;
  const T* bias;
  const float* means;  // null: zero
  const float* inv_stds;
  int64_t length;
  float eps;
  bool is_output;

  // (x - mean) * inv_std at one place.
  __device__ float normalized(int64_t row, int64_t i) const {
    float value = static_cast<float>(values[row * length + i]);
    if (!is_output) return (value - (means ? means[row] : 0.0f)) * inv_stds[row];
    if (bias) value -= static_cast<float>(bias[i]);
    if (!weight) return value;
    const float scale = static_cast<float>(weight[i]);
    // A weight near zero has wiped the value out; keep the quotient finite.
    return value / copysignf(fmaxf(fabsf(scale), eps), scale);
  }

  __device__ float scaled(const T* grad, int64_t row, int64_t i) const {
    const float value = static_cast<float>(grad[row * length + i]);
    return weight ? value * static_cast<float>(weight[i]) : value;
  }
};

template <typename T, bool kCentered>
__global__ void backward_rows(const T* grad, Saved<T> saved, T* grad_input) {
  const int64_t row = blockIdx.x;
  float sum = 0.0f;
  float dot = 0.0f;
  for (int64_t i = threadIdx.x; i < saved.length; i += kThreads) {
    const float scaled = saved.scaled(grad, row, i);
    sum += scaled;
    dot += scaled * saved.normalized(row, i);
  }
  const float mean = kCentered ? block_sum(sum) / saved.length : 0.0f;
  const float slope = block_sum(dot) / saved.length;
  for (int64_t i = threadIdx.x; i < saved.length; i += kThreads) {
    const float through = saved.scaled(grad, row, i) - mean - saved.normalized(row, i) * slope;
    grad_input[row * saved.length + i] = static_cast<T>(through * saved.inv_stds[row]);
  }
}

// One thread for a column: the parameters' gradients are sums over all rows.
template <typename T>
__global__ void backward_parameters(const T* grad, Saved<T> saved, int64_t rows, T* grad_weight,
                                    T* grad_bias) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= saved.length) return;
  float weight_sum = 0.0f;
  float bias_sum = 0.0f;
  for (int64_t row = 0; row < rows; ++row) {
    const float value = static_cast<float>(grad[row * saved.length + i]);
    weight_sum += value * saved.normalized(row, i);
    bias_sum += value;
  }
  grad_weight[i] = static_cast<T>(weight_sum);
  if (grad_bias) grad_bias[i] = static_cast<T>(bias_sum);
}

template <typename T>
const T* pointer(const std::optional<at::Tensor>& tensor) {
  return tensor ? tensor->const_data_ptr<T>() : nullptr;
}

void check(const at::Tensor& tensor, const char* name) {
  TORCH_CHECK(tensor.is_cuda() && tensor.is_contiguous(), name, ": not a contiguous CUDA tensor");
}

#define FOR_EACH_TYPE(tensor, name, ...) \
  AT_DISPATCH_SWITCH(tensor.scalar_type(), name, \
                     AT_DISPATCH_CASE(at::kFloat, __VA_ARGS__) \
                     AT_DISPATCH_CASE(at::kHalf, __VA_ARGS__) \
                     AT_DISPATCH_CASE(at::kBFloat16, __VA_ARGS__))

}  // namespace

Normalized norm_forward(const at::Tensor& input, at::IntArrayRef shape,
                        const std::optional<at::Tensor>& weight,
                        const std::optional<at::Tensor>& bias, double eps, bool centered) {
  check(input, "input");
  const c10::cuda::CUDAGuard guard(input.device());
  const Rows rows = rows_of(input.sizes(), shape);
  const auto statistics = input.options().dtype(at::kFloat);
  Normalized result{at::empty_like(input), at::empty({centered ? rows.count : 0}, statistics),
                    at::empty({rows.count}, statistics)};
  if (input.numel() == 0) return result;
  const auto stream = c10::cuda::getCurrentCUDAStream();
  FOR_EACH_TYPE(input, "norm_forward", [&] {
    const auto kernel = centered ? forward_rows<scalar_t, true> : forward_rows<scalar_t, false>;
    kernel<<<rows.count, kThreads, 0, stream>>>(
        input.const_data_ptr<scalar_t>(), pointer<scalar_t>(weight), pointer<scalar_t>(bias),
        result.output.mutable_data_ptr<scalar_t>(), result.mean.mutable_data_ptr<float>(),
        result.inv_std.mutable_data_ptr<float>(), rows.length, static_cast<float>(eps));
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return result;
}

Gradients norm_backward(const at::Tensor& grad, const std::optional<at::Tensor>& mean,
                        const at::Tensor& inv_std, const at::Tensor& saved, at::IntArrayRef shape,
                        const std::optional<at::Tensor>& weight,
                        const std::optional<at::Tensor>& bias, double eps, bool is_output,
                        bool centered) {
  check(grad, "grad_output");
  check(saved, "input_or_output");
  const c10::cuda::CUDAGuard guard(grad.device());
  const Rows rows = rows_of(saved.sizes(), shape);
  Gradients result{at::empty_like(grad), weight ? at::zeros_like(*weight) : at::Tensor(),
                   bias ? at::zeros_like(*bias) : at::Tensor()};
  if (grad.numel() == 0) return result;
  const auto stream = c10::cuda::getCurrentCUDAStream();
  FOR_EACH_TYPE(grad, "norm_backward", [&] {
    const Saved<scalar_t> kept{saved.const_data_ptr<scalar_t>(), pointer<scalar_t>(weight),
                               pointer<scalar_t>(bias),          pointer<float>(mean),
                               inv_std.const_data_ptr<float>(),  rows.length,
                               static_cast<float>(eps),          is_output};
    const auto* gradient = grad.const_data_ptr<scalar_t>();
    const auto kernel = centered ? backward_rows<scalar_t, true> : backward_rows<scalar_t, false>;
    kernel<<<rows.count, kThreads, 0, stream>>>(
        gradient, kept, result.input.mutable_data_ptr<scalar_t>());
    if (weight) {
      backward_parameters<scalar_t><<<(rows.length + kThreads - 1) / kThreads, kThreads, 0, stream>>>(
          gradient, kept, rows.count, result.weight.mutable_data_ptr<scalar_t>(),
          bias ? result.bias.mutable_data_ptr<scalar_t>() : nullptr);
    }
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return result;
}

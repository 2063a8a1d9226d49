// apex_C: many tensors as one flat one, and back. Runs wherever its tensors are.
#include <torch/extension.h>

#include <vector>

at::Tensor flatten(const std::vector<at::Tensor>& tensors) {
  TORCH_CHECK(!tensors.empty(), "flatten: no tensors");
  std::vector<at::Tensor> flat;
  flat.reserve(tensors.size());
  for (const auto& tensor : tensors) flat.push_back(tensor.reshape({-1}));
  return at::cat(flat);
}

std::vector<at::Tensor> unflatten(const at::Tensor& flat, const std::vector<at::Tensor>& like) {
  std::vector<at::Tensor> tensors;
  tensors.reserve(like.size());
  int64_t offset = 0;
  for (const auto& shape : like) {
    TORCH_CHECK(offset + shape.numel() <= flat.numel(), "unflatten: the flat tensor is too short");
    tensors.push_back(flat.narrow(0, offset, shape.numel()).view(shape.sizes()));
    offset += shape.numel();
  }
  return tensors;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  module.def("flatten", &flatten, "Tensors of one dtype as one flat tensor");
  module.def("unflatten", &unflatten, "Views of a flat tensor, shaped like these");
}

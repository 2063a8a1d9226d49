// How a tensor is seen by the kernels: rows of one length. Used by the binding and the kernels.
#pragma once

#include <c10/util/ArrayRef.h>
#include <c10/util/Exception.h>

#include <cstdint>

struct Rows {
  int64_t count;
  int64_t length;
};

// Splits sizes into rows: `normalized` is the tail of `sizes`, and one row is that tail flattened.
inline Rows rows_of(c10::IntArrayRef sizes, c10::IntArrayRef normalized) {
  TORCH_CHECK(!normalized.empty() && normalized.size() <= sizes.size(),
              "normalized_shape ", normalized, " does not fit an input of sizes ", sizes);
  const size_t outer = sizes.size() - normalized.size();
  TORCH_CHECK(sizes.slice(outer) == normalized,
              "normalized_shape ", normalized, " is not the tail of the input's sizes ", sizes);
  Rows rows{1, 1};
  for (size_t i = 0; i < outer; ++i) rows.count *= sizes[i];
  for (const int64_t size : normalized) rows.length *= size;
  return rows;
}

#include <weft/tensor/shape.h>

namespace weft {

int64_t Shape::numel() const {
  int64_t n = 1;
  if (std::find(begin(), end(), 0) != end()) return 0;
  for (int64_t d : *this) {
    check(!__builtin_mul_overflow(n, d, &n), "shape: ", *this, " has too many elements");
  }
  return n;
}

Shape Shape::contiguous_strides() const {
  Shape strides(static_cast<size_t>(size_), 1);
  for (int64_t i = size_ - 2; i >= 0; --i) strides[i] = strides[i + 1] * std::max<int64_t>(dims_[i + 1], 1);
  return strides;
}

void put(std::string& s, const Shape& shape) {
  s += '[';
  for (int64_t i = 0; i < shape.size(); ++i) {
    if (i) s += ", ";
    put(s, shape[i]);
  }
  s += ']';
}

int64_t wrap_dim(int64_t dim, int64_t ndim, const char* op) {
  const int64_t n = std::max<int64_t>(ndim, 1);  // a scalar accepts 0 and -1, as in PyTorch
  check(dim >= -n && dim < n, op, ": dim ", dim, " is out of range for ", ndim, " dimensions");
  return dim < 0 ? dim + n : dim;
}

Shape broadcast_shapes(const Shape& a, const Shape& b, const char* op) {
  const Shape& longer = a.size() >= b.size() ? a : b;
  const Shape& shorter = a.size() >= b.size() ? b : a;
  Shape out = longer;
  const int64_t lead = longer.size() - shorter.size();
  for (int64_t i = 0; i < shorter.size(); ++i) {
    int64_t& d = out[lead + i];
    if (d == shorter[i] || shorter[i] == 1) continue;
    check(d == 1, op, ": shapes do not broadcast: ", a, " and ", b);
    d = shorter[i];
  }
  return out;
}

}  // namespace weft

// Shape: a small fixed-capacity list of int64, used for sizes and for strides.
#pragma once

#include <weft/tensor/error.h>

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <vector>

namespace weft {

inline constexpr int64_t kMaxDims = 12;

/// Sizes (or strides, in elements) of up to 12 dimensions. An empty shape is that of a scalar.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) { assign(dims.begin(), dims.end()); }
  Shape(const std::vector<int64_t>& dims) { assign(dims.begin(), dims.end()); }
  template <class It>
  requires std::input_iterator<It> Shape(It first, It last) { assign(first, last); }
  Shape(size_t n, int64_t value) {
    for (size_t i = 0; i < n; ++i) push_back(value);
  }

  int64_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  int64_t& operator[](int64_t i) { return dims_[i]; }
  int64_t operator[](int64_t i) const { return dims_[i]; }
  int64_t* begin() { return dims_; }
  int64_t* end() { return dims_ + size_; }
  const int64_t* begin() const { return dims_; }
  const int64_t* end() const { return dims_ + size_; }
  int64_t back() const { return dims_[size_ - 1]; }
  int64_t& back() { return dims_[size_ - 1]; }

  void push_back(int64_t v) {
    check(size_ < kMaxDims, "shape: a tensor has at most ", kMaxDims, " dimensions");
    dims_[size_++] = v;
  }
  void insert(int64_t at, int64_t v) {
    push_back(v);
    std::rotate(dims_ + at, dims_ + size_ - 1, dims_ + size_);
  }
  void erase(int64_t at) {
    std::copy(dims_ + at + 1, dims_ + size_, dims_ + at);
    --size_;
  }
  bool operator==(const Shape& o) const { return std::equal(begin(), end(), o.begin(), o.end()); }

  /// Product of the sizes (1 for a scalar); throws where it passes 2^63.
  int64_t numel() const;
  /// Row-major strides of this shape.
  Shape contiguous_strides() const;

 private:
  template <class It>
  void assign(It first, It last) {
    for (; first != last; ++first) push_back(static_cast<int64_t>(*first));
  }
  int64_t size_ = 0;
  int64_t dims_[kMaxDims];
};

/// "[2, 3]"
void put(std::string& s, const Shape& shape);

/// dim in [-ndim, ndim) as one in [0, ndim); throws "op: dim 3 is out of range for 2 dimensions".
int64_t wrap_dim(int64_t dim, int64_t ndim, const char* op);

/// The shape that a and b broadcast to, by NumPy's rule; throws naming op and both shapes.
Shape broadcast_shapes(const Shape& a, const Shape& b, const char* op);

}  // namespace weft

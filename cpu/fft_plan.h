// Tables that the FFT kernels read: the tree of butterflies, its twiddles (computed in double) and the chirps of
// lengths with a large prime factor. Plans are immutable once built, shared between threads and kept in a bounded
// cache.
#pragma once

#include <weft/tensor/error.h>

#include <complex>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

namespace weft::cpu::fft {

// Uninitialised scratch memory on a cache-line boundary.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t size) : size_(size) {
    if (size == 0) return;
    const size_t bytes = (static_cast<size_t>(size) * sizeof(T) + 63) / 64 * 64;
    data_.reset(static_cast<T*>(std::aligned_alloc(64, bytes)));
    if (!data_) throw OutOfMemory(concat("fft: no memory for ", bytes, " bytes"));
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  int64_t size() const { return size_; }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
  int64_t size_ = 0;
};

// e^(2πi num/den), each part correct to the last bit or so: the angle is reduced to an eighth of a turn in integers
// first.
std::complex<double> unit_root(int64_t num, int64_t den);

// The factors a tree is made of, odd ones first; empty when n has a prime factor above 13. n = 1 gives {} and ok =
// true.
struct Factors {
  std::vector<int> radix;
  bool ok = false;
};
Factors factorise(int64_t n);

// A tree of butterflies over `rows` vectors. The root holds a polynomial modulo z^rows = w; a node of radix R splits
// z^(R·m) = w^R into the R polynomials z^m = w·e^(-2πij/R). Every node therefore has one twiddle w for its whole
// block and all lanes of a vector do the same arithmetic. Input is in natural order, output row p holds frequency
// order[p]; a convolution never needs to know that order, and the inverse walks the same tree upwards.
//
// With w = 1 at the root this is the DFT. With w = -i it multiplies modulo z^n + i: for real a and b the product is
// (low half) - i·(high half) of their linear convolution, so that its real part is the causal convolution, with no zero
// padding (the right-angle convolution of Crandall and Fagin, 1994).
template <class T>
struct Tree {
  int64_t rows = 1;
  std::vector<int> radix;          // one a level, from the root
  std::vector<int64_t> span;       // rows of one node at level l; span[levels] = 1
  std::vector<const T*> twiddles;  // level l: [nodes, radix - 1, 2], powers w, w², … of each node
  std::vector<int32_t> order;      // [rows] row p -> frequency
  std::vector<int32_t> place;      // [rows] frequency -> row
  Buffer<T> table;
};
template <class T>
Tree<T> make_tree(int64_t rows, bool right_angle);

// The transform of one long row of n = rows × width numbers: the tree over vectors of `width` consecutive numbers, then
// for each group of `width` rows a transposition and a last DFT of size `width` within them (the leaf). n is a multiple
// of width² and has no prime factor above 5.
template <class T>
struct RowPlan {
  int64_t n = 0, width = 0;
  bool natural = false;  // leaf groups take rows by frequency (output in order) or by place (order left open)
  Tree<T> tree;
  Buffer<T> leaf;  // [rows / width, width - 1, 2, width]
};
template <class T>
RowPlan<T> make_row_plan(int64_t n, int64_t width, bool right_angle, bool natural);

// Bluestein: a DFT of any length n as a cyclic convolution of length m >= 2n - 1 with a chirp.
template <class T>
struct ChirpPlan {
  int64_t n = 0, m = 0;
  RowPlan<T> row;    // of length m, order left open
  Buffer<T> chirp;   // [2, n rounded up to width] e^(-πij²/n), zero in the padding
  Buffer<T> filter;  // [m / width, 2, width] transform of the conjugate chirp over m, filled by the kernel that uses it
};
template <class T>
ChirpPlan<T> make_chirp_plan(int64_t n, int64_t width);

// How a real transform of length n is done. Even n: a complex one of n/2 on pairs of neighbours. Odd n: two rows at
// once as real and imaginary part of a complex one of n.
template <class T>
struct RealPlan {
  enum Kind { in_row, across_rows, chirp };
  int64_t n = 0;       // real length
  int64_t length = 0;  // complex length
  Kind kind = in_row;
  RowPlan<T> row;
  Tree<T> tree;
  ChirpPlan<T> bluestein;
  Buffer<T> split;  // even n: [2, length + 1 rounded up] e^(-2πik/n), which separates the two halves of the spectrum
};
template <class T>
RealPlan<T> make_real_plan(int64_t n, int64_t width);

// The smallest length >= n of the form width² · {1, 3, 5, 9, 15} · 2^a.
int64_t cheap_length(int64_t n, int64_t width);

}  // namespace weft::cpu::fft

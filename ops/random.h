// Random numbers from a counter-based generator (Philox4x32-10: Salmon et al., SC 2011): element i of a draw is a
// function of (seed, position, i) alone, so the same seed gives the same draws on every device and thread count.
#pragma once

#include <weft/ops/create.h>
#include <weft/tensor/tensor.h>

namespace weft {

/// A seed and a position in its stream. Not for use from several threads at once.
class Generator {
 public:
  struct State {
    uint64_t seed = 0;
    uint64_t offset = 0;  ///< counters used so far; each gives four 32-bit words
    bool operator==(const State&) const = default;
  };
  explicit Generator(uint64_t seed = 0) : state_{seed, 0} {}
  const State& state() const { return state_; }
  void set_state(State s) { state_ = s; }
  void manual_seed(uint64_t seed) { state_ = {seed, 0}; }
  /// Takes words 32-bit words from the stream; returns where they start.
  State reserve(int64_t words) {
    const State start = state_;
    state_.offset += (static_cast<uint64_t>(words) + 3) / 4;
    return start;
  }

 private:
  State state_;
};

/// The calling thread's own generator; calls that draw use it unless given another. Starts with seed 0.
Generator& default_generator();
/// Restarts the calling thread's default generator.
void manual_seed(uint64_t seed);

Tensor rand(const Shape& shape, TensorOptions options = {},
            Generator& generator = default_generator());  ///< uniform in [0, 1)
Tensor randn(const Shape& shape, TensorOptions options = {},
             Generator& generator = default_generator());  ///< normal, mean 0, variance 1
/// Integers in [low, high), int64 unless options say otherwise.
Tensor randint(int64_t low, int64_t high, const Shape& shape, TensorOptions options = {.dtype = int64},
               Generator& generator = default_generator());
/// 1 with probability p[i], else 0, in p's dtype. non_differentiable
Tensor bernoulli(const Tensor& p, Generator& generator = default_generator());

/// Refills x; not recorded.
void uniform_(Tensor& x, double low = 0, double high = 1, Generator& generator = default_generator());
void normal_(Tensor& x, double mean = 0, double std = 1, Generator& generator = default_generator());

/// Sets elements to 0 with probability p and scales the others by 1/(1-p); x itself where p is 0 or not training. The
/// mask is not stored: backward draws it again.
Tensor dropout(const Tensor& x, double p, bool training = true, Generator& generator = default_generator());

}  // namespace weft

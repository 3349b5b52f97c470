#include <weft/autograd/autograd.h>
#include <weft/ops/kernel.h>
#include <weft/ops/random.h>

namespace weft {

WEFT_DECLARE_KERNEL(uniform, Tensor& y, double low, double high, Generator::State at)
WEFT_DECLARE_KERNEL(normal, Tensor& y, double mean, double std, Generator::State at)
WEFT_DECLARE_KERNEL(randint, Tensor& y, int64_t low, int64_t high, Generator::State at)
WEFT_DECLARE_KERNEL(bernoulli, const Tensor& p, Tensor& y, Generator::State at)
WEFT_DECLARE_KERNEL(dropout, const Tensor& x, double p, Generator::State at, Tensor& y)

Generator& default_generator() {
  thread_local Generator generator;
  return generator;
}
void manual_seed(uint64_t seed) { default_generator().manual_seed(seed); }

void uniform_(Tensor& x, double low, double high, Generator& g) {
  check(x.is_floating(), "uniform_: expected a floating tensor, got ", x.dtype());
  Tensor fresh = empty_like(x);
  WEFT_KERNEL(x.device(), uniform, fresh, low, high, g.reserve(2 * x.numel()));
  NoGrad guard;
  x.copy_(fresh);
}

void normal_(Tensor& x, double mean, double std, Generator& g) {
  check(x.is_floating(), "normal_: expected a floating tensor, got ", x.dtype());
  check(std >= 0, "normal_: std must not be negative, got ", std);
  Tensor fresh = empty_like(x);
  WEFT_KERNEL(x.device(), normal, fresh, mean, std, g.reserve(x.numel()));
  NoGrad guard;
  x.copy_(fresh);
}

Tensor rand(const Shape& shape, TensorOptions o, Generator& g) {
  Tensor x = empty(shape, o.dtype, o.device);
  uniform_(x, 0, 1, g);
  return x.requires_grad_(o.requires_grad);
}

Tensor randn(const Shape& shape, TensorOptions o, Generator& g) {
  Tensor x = empty(shape, o.dtype, o.device);
  normal_(x, 0, 1, g);
  return x.requires_grad_(o.requires_grad);
}

Tensor randint(int64_t low, int64_t high, const Shape& shape, TensorOptions o, Generator& g) {
  check(low < high, "randint: nothing between ", low, " and ", high);
  Tensor x = empty(shape, int64, o.device);
  WEFT_KERNEL(o.device, randint, x, low, high, g.reserve(2 * x.numel()));
  return x.to(o.dtype);
}

Tensor bernoulli(const Tensor& p, Generator& g) {
  check(p.is_floating(), "bernoulli: expected floating probabilities, got ", p.dtype());
  Tensor y = empty_like(p);
  WEFT_KERNEL(p.device(), bernoulli, p.contiguous(), y, g.reserve(p.numel()));
  return y;
}

namespace {
Tensor dropout_at(const Tensor& x, double p, Generator::State at) {
  const Tensor in = x.contiguous();
  Tensor y = empty_like(in);
  WEFT_KERNEL(x.device(), dropout, in, p, at, y);
  return record("dropout", y, {in}, [p, at](const Tensor& dy) -> Grads { return {dropout_at(dy, p, at)}; });
}
}  // namespace

Tensor dropout(const Tensor& x, double p, bool training, Generator& g) {
  check(p >= 0 && p <= 1, "dropout: p must be in [0, 1], got ", p);
  check(x.is_floating(), "dropout: expected a floating tensor, got ", x.dtype());
  if (!training || p == 0) return x;
  return dropout_at(x, p, g.reserve(x.numel()));
}

}  // namespace weft

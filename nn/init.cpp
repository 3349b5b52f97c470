#include <weft/autograd/autograd.h>
#include <weft/nn/init.h>

#include <cmath>

namespace weft::init {

namespace {

// Φ⁻¹ by Newton steps on Φ(z) = erfc(-z/√2)/2 from Winitzki's closed form for erf⁻¹; good to the last bits of a double.
double normal_quantile(double p) {
  const double t = 2 * p - 1, a = 0.147, l = std::log((1 - t) * (1 + t)), b = 2 / (M_PI * a) + l / 2;
  double z = std::copysign(std::sqrt(std::sqrt(b * b - l / a) - b), t) * std::sqrt(2.0);
  for (int i = 0; i < 4; ++i) {
    const double error = 0.5 * std::erfc(-z / std::sqrt(2.0)) - p;
    z -= error * std::sqrt(2 * M_PI) * std::exp(z * z / 2);
  }
  return z;
}

double gain(double a) { return std::sqrt(2 / (1 + a * a)); }

}  // namespace

void uniform_(const Tensor& x, double low, double high, Generator& g) {
  NoGrad guard;
  Tensor t = x;
  weft::uniform_(t, low, high, g);
}

void normal_(const Tensor& x, double mean, double std, Generator& g) {
  NoGrad guard;
  Tensor t = x;
  weft::normal_(t, mean, std, g);
}

void trunc_normal_(const Tensor& x, double mean, double std, double low, double high, Generator& g) {
  check(low < high && std > 0, "trunc_normal_: nothing between ", low, " and ", high, " with std ", std);
  NoGrad guard;
  auto cdf = [&](double v) { return 0.5 * std::erfc(-(v - mean) / std / std::sqrt(2.0)); };
  const double from = cdf(low), to = cdf(high);
  std::vector<double> u = rand(x.shape(), {.dtype = float64}, g).to_vector<double>();
  for (double& v : u)
    v = std::min(std::max(mean + std * normal_quantile(from + (to - from) * std::max(v, 1e-300)), low), high);
  Tensor t = x;
  t.copy_(tensor(u, x.shape()).to(x.dtype()).to(x.device()));
}

void constant_(const Tensor& x, double value) {
  NoGrad guard;
  Tensor(x).fill_(value);
}
void zeros_(const Tensor& x) { constant_(x, 0); }
void ones_(const Tensor& x) { constant_(x, 1); }

Fans fans(const Tensor& x) {
  check(x.dim() >= 2, "init: fan-in and fan-out need at least two dimensions, got ", x.shape());
  const int64_t field = Shape(x.shape().begin() + 2, x.shape().end()).numel();
  return {x.size(1) * field, x.size(0) * field};
}

void kaiming_uniform_(const Tensor& x, double a, Generator& g) {
  const double bound = gain(a) * std::sqrt(3.0 / static_cast<double>(fans(x).in));
  uniform_(x, -bound, bound, g);
}
void kaiming_normal_(const Tensor& x, double a, Generator& g) {
  normal_(x, 0, gain(a) / std::sqrt(static_cast<double>(fans(x).in)), g);
}

void xavier_uniform_(const Tensor& x, double gain, Generator& g) {
  const Fans f = fans(x);
  const double bound = gain * std::sqrt(6.0 / static_cast<double>(f.in + f.out));
  uniform_(x, -bound, bound, g);
}
void xavier_normal_(const Tensor& x, double gain, Generator& g) {
  const Fans f = fans(x);
  normal_(x, 0, gain * std::sqrt(2.0 / static_cast<double>(f.in + f.out)), g);
}

}  // namespace weft::init

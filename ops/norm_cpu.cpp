// One pass over x in memory each way: a row is walked several times while it stays in the cache. The gradients of
// weight and bias are sums over rows: each fixed block of rows keeps partial sums, which are added in order at the end.
#include <weft/cpu/rows.h>
#include <weft/ops/norm_kind.h>

namespace weft::cpu {

namespace {

template <class C>
struct RowStats {
  C mean, r;
};

template <class C>
RowStats<C> row_stats(NormKind kind, const C* x, int64_t n, C eps) {
  C mean = 0;
  if (kind == NormKind::layer) mean = sum_of<C>(n, [&](int64_t i) { return x[i]; }) / static_cast<C>(n);
  C power = sum_of<C>(n, [&](int64_t i) { return (x[i] - mean) * (x[i] - mean); });
  if (kind != NormKind::l2) power /= static_cast<C>(n);
  const bool limited = kind == NormKind::scale || kind == NormKind::l2;
  return {mean, C(1) / (limited ? std::max(std::sqrt(power), eps) : std::sqrt(power + eps))};
}

void add(const Tensor& a, const Tensor& b, Tensor& sum) {
  dispatch_compute(sum.dtype(), [&]<class C>(Type<C>) { map<C, C>([](C u, C v) { return u + v; }, a, b, sum); });
}

}  // namespace

void norm(const NormArgs& args, const Tensor& x0, const Tensor& residual, int64_t n, const Tensor& weight,
          const Tensor& bias, Tensor& sum, Tensor& y, Tensor& stats) {
  if (residual.defined()) add(x0, residual, sum);
  const Tensor& x = residual.defined() ? sum : x0;
  const int64_t rows = x.numel() / n;
  dispatch_floating(x.dtype(), [&]<class T>(Type<T>) {
    using C = acc_t<T>;
    const Vector<C> gain(weight, n, C(1), args.offset), shift(bias, n, C(0));
    const C *w = gain.data(), *b = shift.data();
    const T* px = x.data<T>();
    T* py = y.data<T>();
    C *means = stats.data<C>(), *rs = means + rows;
    parallel_for(rows, row_grain(n), [&](int64_t begin, int64_t end) {
      std::vector<C> buffer(static_cast<size_t>(kBuffered<T> ? n : 0));
      vectorized([&] {
        for (int64_t row = begin; row < end; ++row) {
          const C* in = widen(px + row * n, n, buffer.data());
          const auto [mean, r] = row_stats(args.kind, in, n, static_cast<C>(args.eps));
          C* out = row_out(py + row * n, buffer.data());
#pragma GCC ivdep
          for (int64_t i = 0; i < n; ++i) out[i] = (in[i] - mean) * r * w[i] + b[i];
          narrow(out, n, py + row * n);
          means[row] = mean, rs[row] = r;
        }
      });
    });
  });
}

// With x̂ = (x - mean)·r and h = dy·(weight + offset): dx = r·(h - c1 - x̂·c2), where c1 = mean(h) if the mean was taken
// and c2 = mean(h·x̂) (for l2 the sum; 0 where r is constant). dweight = Σ dy·x̂ and dbias = Σ dy over rows.
void norm_backward(const NormArgs& args, const Tensor& x, int64_t n, const Tensor& weight, const Tensor& stats,
                   const Tensor& dy, const Tensor& dsum, Tensor& dx, Tensor& dweight, Tensor& dbias) {
  const NormKind kind = args.kind;
  constexpr int64_t kBlocks = 64, kLeast = 16;  // blocks of rows with sums of their own; rows in the smallest
  const int64_t rows = x.numel() / n, block = std::max(kLeast, (rows + kBlocks - 1) / kBlocks);
  const int64_t blocks = (rows + block - 1) / block;
  const bool needs_w = dweight.defined(), needs_b = dbias.defined();
  dispatch_floating(x.dtype(), [&]<class T>(Type<T>) {
    using C = acc_t<T>;
    const Vector<C> gain(weight, n, C(1), args.offset);
    const C* w = gain.data();
    const T *px = x.data<T>(), *pdy = dy.data<T>(), *more = dsum.defined() ? dsum.data<T>() : nullptr;
    T* pdx = dx.data<T>();
    const C *means = stats.data<C>(), *rs = means + rows, most = C(1) / static_cast<C>(args.eps);
    const bool limited = kind == NormKind::scale || kind == NormKind::l2;
    std::vector<C> partial(static_cast<size_t>((needs_w + needs_b) * blocks * n));
    C *sums_w = partial.data(), *sums_b = sums_w + (needs_w ? blocks * n : 0);

    const int64_t grain = needs_w || needs_b ? block : row_grain(n);
    parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
      std::vector<C> buffer(static_cast<size_t>(kBuffered<T> ? 2 * n : 0));
      C *b0 = buffer.data(), *b1 = b0 + (kBuffered<T> ? n : 0);
      C *dw = sums_w + begin / block * n, *db = sums_b + begin / block * n;
      vectorized([&] {
        for (int64_t row = begin; row < end; ++row) {
          const C *in = widen(px + row * n, n, b0), *g = widen(pdy + row * n, n, b1);
          const C mean = means[row], r = rs[row];
          if (needs_w && needs_b) {
#pragma GCC ivdep
            for (int64_t i = 0; i < n; ++i) dw[i] += g[i] * ((in[i] - mean) * r), db[i] += g[i];
          } else if (needs_w) {
#pragma GCC ivdep
            for (int64_t i = 0; i < n; ++i) dw[i] += g[i] * ((in[i] - mean) * r);
          } else if (needs_b) {
#pragma GCC ivdep
            for (int64_t i = 0; i < n; ++i) db[i] += g[i];
          }
          C c1 = 0, c2 = 0;
          if (kind == NormKind::layer) c1 = sum_of<C>(n, [&](int64_t i) { return g[i] * w[i]; }) / static_cast<C>(n);
          if (!limited || r < most) c2 = sum_of<C>(n, [&](int64_t i) { return g[i] * w[i] * ((in[i] - mean) * r); });
          if (kind != NormKind::l2) c2 /= static_cast<C>(n);
          C* out = row_out(pdx + row * n, b0);
#pragma GCC ivdep
          for (int64_t i = 0; i < n; ++i) out[i] = (g[i] * w[i] - c1 - (in[i] - mean) * r * c2) * r;
          if (more) {
            const C* m = widen(more + row * n, n, b1);
#pragma GCC ivdep
            for (int64_t i = 0; i < n; ++i) out[i] += m[i];
          }
          narrow(out, n, pdx + row * n);
        }
      });
    });

    for (const auto& [sums, result] : {std::pair{sums_w, &dweight}, {sums_b, &dbias}}) {
      if (!result->defined()) continue;
      C* total = result->template data<C>();
      vectorized([&, sums = sums] {
        std::copy(sums, sums + n, total);
        for (int64_t k = 1; k < blocks; ++k) {
          const C* p = sums + k * n;
#pragma GCC ivdep
          for (int64_t i = 0; i < n; ++i) total[i] += p[i];
        }
      });
    }
  });
}

}  // namespace weft::cpu

#include <weft/cpu/strided.h>
#include <weft/ops/copy.h>
#include <weft/ops/shape.h>

#include <vector>

namespace weft::cpu {

void rotary(const Tensor& x, const Tensor& angles, const Tensor& scale, bool inverse, bool halves, int64_t n,
            int64_t inner, Tensor& y);

namespace {

// Turns x [..., d] where it lies; position of row r: r / inner mod the angles' n.
void turn(const Tensor& angles, bool inverse, int64_t inner, Tensor& x) {
  if (angles.defined()) rotary(x, unsqueeze(angles, 0), {}, inverse, false, angles.shape()[0], inner, x);
}

}  // namespace

void affine_heads(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& angles, Tensor& y) {
  Tensor wide = y.dtype() == weight.dtype() ? y : empty_like(y, weight.dtype());
  const auto heads = [&](const Tensor& t, int64_t dim) { return expand(unsqueeze(t, dim), y.shape()); };
  dispatch_compute(weight.dtype(), [&]<class C>(Type<C>) {
    map<C, C, C>([](C v, C w, C b) { return v * w + b; }, heads(x, 0), heads(weight, 1), heads(bias, 1), wide);
  });
  turn(angles, false, 1, wide);
  if (!wide.same_as(y)) copy_into(wide, y);
}

namespace {

// dx[r, i] = Σ over heads of dy[r, h, i]·weight[h, i]
template <class C>
void input_grad(const C* dy, const C* weight, C* dx, int64_t rows, int64_t heads, int64_t d) {
  parallel_for(rows, std::max<int64_t>(1, kGrain / (heads * d)), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      C* to = dx + r * d;
      std::fill(to, to + d, C(0));
      for (int64_t h = 0; h < heads; ++h) {
        const C *g = dy + (r * heads + h) * d, *w = weight + h * d;
        for (int64_t i = 0; i < d; ++i) to[i] += g[i] * w[i];
      }
    }
  });
}

// dweight[h, i] = Σ over rows of dy[r, h, i]·x[r, i], dbias[h, i] the same without x: a few rows at a time, so that the
// sums stay exact.
template <class C>
void parameter_grads(const C* dy, const C* x, C* dweight, C* dbias, int64_t rows, int64_t heads, int64_t d) {
  constexpr int64_t kRows = 64;
  parallel_for(heads, 1, [&](int64_t begin, int64_t end) {
    std::vector<C> part(static_cast<size_t>(2 * d));
    C *part_w = part.data(), *part_b = part_w + d;
    for (int64_t h = begin; h < end; ++h) {
      C *dw = dweight + h * d, *db = dbias + h * d;
      std::fill(dw, dw + d, C(0)), std::fill(db, db + d, C(0));
      for (int64_t r0 = 0; r0 < rows; r0 += kRows) {
        std::fill(part.begin(), part.end(), C(0));
        for (int64_t r = r0; r < std::min(rows, r0 + kRows); ++r) {
          const C *g = dy + (r * heads + h) * d, *in = x + r * d;
          for (int64_t i = 0; i < d; ++i) part_w[i] += g[i] * in[i], part_b[i] += g[i];
        }
        for (int64_t i = 0; i < d; ++i) dw[i] += part_w[i], db[i] += part_b[i];
      }
    }
  });
}

}  // namespace

void affine_heads_backward(const Tensor& x, const Tensor& weight, const Tensor& angles, const Tensors& dy, Tensor& dx,
                           Tensor& dweight, Tensor& dbias) {
  const int64_t rows = x.shape()[0], heads = weight.shape()[0], d = weight.shape()[1];
  Tensor g = empty({rows, heads, d}, weight.dtype(), x.device());
  for (int64_t h = 0; h < heads; ++h) {
    Tensor to = select(g, 1, h);
    copy_into(dy[static_cast<size_t>(h)], to);
  }
  turn(angles, true, heads, g);
  const Tensor in = x.to(weight.dtype()), to = empty_like(in);
  dispatch_compute(weight.dtype(), [&]<class C>(Type<C>) {
    if constexpr (!std::is_integral_v<C>) {
      input_grad(g.data<C>(), weight.data<C>(), to.data<C>(), rows, heads, d);
      parameter_grads(g.data<C>(), in.data<C>(), dweight.data<C>(), dbias.data<C>(), rows, heads, d);
    }
  });
  copy_into(to, dx);
}

}  // namespace weft::cpu

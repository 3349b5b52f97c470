#include <weft/autograd/autograd.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/kernel.h>
#include <weft/ops/reduce.h>
#include <weft/ops/rotary.h>
#include <weft/ops/shape.h>

namespace weft {

// x, y: contiguous [outer, n, inner, d]; angles: contiguous [b, n, pairs] in the compute type, b divides outer; scale:
// the same or undefined. inverse: turned back.
WEFT_DECLARE_KERNEL(rotary, const Tensor& x, const Tensor& angles, const Tensor& scale, bool inverse, bool halves,
                    int64_t n, int64_t inner, Tensor& y)

namespace {

struct Turn {
  Tensor angles, scale;  // [n, pairs] or [b, n, pairs]
  RotaryPairs pairs;
  int64_t seq_dim;
  bool inverse = false;
};

// One feature of every pair of t: [..., n, ..., d] → [..., n, pairs], n last but one.
Tensor feature(const Tensor& t, const Turn& by, int64_t which) {
  const int64_t pairs = by.angles.size(-1);
  const Tensor f = by.pairs == RotaryPairs::halves ? slice(t, -1, which * pairs, (which + 1) * pairs)
                                                   : slice(t, -1, which, 2 * pairs, 2);
  return movedim(f, by.seq_dim, -2);
}

// Sums over what shares angles: [b, ..., n, pairs] → shape.
Tensor shared(const Tensor& g, const Shape& shape) {
  Shape leading;
  for (int64_t d = shape.size() - 2; d < g.dim() - 2; ++d) leading.push_back(d);
  return leading.empty() ? g : sum(g, leading);
}

// The turn is orthogonal: its gradient is the turn back. With y the result, dθ = dy₂·y₁ - dy₁·y₂ for the angle of a
// pair, and for its scale dy · y / scale.
Tensor turn(const Tensor& x0, const Turn& by) {
  // Heads that lie beside each other at each position, [b, h, n, d] in memory [b, n, h, d], stay so.
  if (by.seq_dim == -2 && !x0.is_contiguous() && x0.dim() >= by.angles.dim() + 1 &&
      transpose(x0, -2, -3).is_contiguous()) {
    Turn beside = by;
    beside.seq_dim = -3;
    return transpose(turn(transpose(x0, -2, -3), beside), -2, -3);
  }
  const Tensor x = x0.contiguous();
  const DType c = x.dtype() == float64 ? float64 : float32;
  Tensor y = empty_like(x);
  if (x.numel() > 0) {
    Shape flat{by.angles.dim() == 3 ? by.angles.size(0) : 1, by.angles.size(-2), by.angles.size(-1)};
    const auto table = [&](const Tensor& t) { return t.defined() ? reshape(t.detach().to(c), flat).contiguous() : t; };
    int64_t inner = 1;
    for (int64_t d = x.dim() + by.seq_dim + 1; d < x.dim() - 1; ++d) inner *= x.shape()[d];
    WEFT_KERNEL(x.device(), rotary, x.detach(), table(by.angles), table(by.scale), by.inverse,
                by.pairs == RotaryPairs::halves, x.size(by.seq_dim), inner, y);
  }
  const bool needs_angles = by.angles.requires_grad(), needs_scale = by.scale.defined() && by.scale.requires_grad();
  return record(
      "rotary", y, {x, by.angles, by.scale},
      [x = needs_angles || needs_scale ? x : Tensor(), by, c, needs_angles, needs_scale](const Tensor& dy) -> Grads {
        Turn back = by;
        back.inverse = !by.inverse;
        Grads grads{turn(dy, back), {}, {}};
        const auto of = [&](const Tensor& t, int64_t which) { return feature(t, by, which).to(c); };
        if (needs_angles) {
          const Tensor y = turn(x, by);
          const Tensor g = sub(mul(of(dy, 1), of(y, 0)), mul(of(dy, 0), of(y, 1)));
          grads[1] = shared(by.inverse ? neg(g) : g, by.angles.shape());
        }
        if (needs_scale) {
          Turn plain = by;
          plain.scale = {};
          const Tensor y = turn(x, plain);
          grads[2] = shared(add(mul(of(dy, 0), of(y, 0)), mul(of(dy, 1), of(y, 1))), by.scale.shape());
        }
        return grads;
      });
}

}  // namespace

Tensor rotary(const Tensor& x, const Tensor& angles, const RotaryOptions& o) {
  check(x.is_floating() && angles.is_floating(), "rotary: expected floating tensors, got ", x.dtype(), " and ",
        angles.dtype());
  check(o.seq_dim <= -2 && x.dim() >= -o.seq_dim, "rotary: seq_dim ", o.seq_dim, " does not fit ", x.shape());
  check(angles.dim() == 2 || angles.dim() == 3, "rotary: expected angles [n, r / 2] or [b, n, r / 2], got ",
        angles.shape());
  check(angles.size(-2) == x.size(o.seq_dim), "rotary: angles ", angles.shape(), " are of ", angles.size(-2),
        " positions, x ", x.shape(), " has ", x.size(o.seq_dim));
  check(angles.dim() == 2 || (x.dim() > -o.seq_dim && angles.size(0) == x.size(0)), "rotary: angles ", angles.shape(),
        " do not share the first dimension of x ", x.shape());
  check(2 * angles.size(-1) <= x.size(-1), "rotary: ", angles.size(-1), " pairs do not fit into ", x.size(-1),
        " features");
  check(!o.scale.defined() || (o.scale.is_floating() && o.scale.shape() == angles.shape()),
        "rotary: expected a floating scale of shape ", angles.shape());
  check_same_device("rotary", {&x, &angles, &o.scale});
  return turn(x, {angles, o.scale, o.pairs, o.seq_dim});
}

}  // namespace weft

// The last projection of a model of tokens and its loss, a chunk of rows at a time: logits, losses and the gradient by
// the logits share one chunk's memory.
#include <weft/autograd/autograd.h>
#include <weft/ops/copy.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/linear.h>
#include <weft/ops/loss_op.h>
#include <weft/ops/matmul.h>
#include <weft/ops/product_op.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

namespace weft {

namespace {

constexpr const char* kName = "linear_cross_entropy";

struct Projection {
  Tensor x, weight, bias;               // as given, with their history: [..., d], [c, d], [c]
  Tensor weight_operand, bias_operand;  // of the product's dtype, without
  Tensor target;                        // [r]
  CrossEntropyOptions options;
  Tensor total;   // what the mean divides by; undefined for other reductions
  DType product;  // in which logits and their gradient are
  int64_t chunk;  // rows of logits at a time

  int64_t classes() const { return weight.size(0); }
  DType sums() const { return detail::loss_dtype(x); }
  Tensor rows() const { return reshape(x, {target.numel(), weight.size(1)}).to(product).contiguous(); }
  // What each row's loss is multiplied by, [1] or [r], for an upstream gradient of the loss.
  Tensor scale(const Tensor& dy) const {
    const Tensor upstream = reshape(dy, {dy.numel()}).to(sums()).contiguous();
    return total.defined() ? div(upstream, total) : upstream;
  }
};

struct Wanted {
  bool x, weight, bias;
  bool any() const { return x || weight || bias; }
};

struct Swept {
  Tensor loss;                // [r]
  Tensor dx, dweight, dbias;  // those wanted: [..., d], [c, d], [c]
  bool has_gradients() const { return dx.defined() || dweight.defined() || dbias.defined(); }
};

// Of sizes alone, so that sums are the same everywhere: a chunk's logits take about half a gigabyte; chunks are of like
// size and whole tiles of a product.
int64_t chunk_rows(int64_t r, int64_t classes, DType product) {
  constexpr int64_t kBytes = int64_t{1} << 29, kTile = 128;
  const int64_t row = std::max<int64_t>(classes * static_cast<int64_t>(size_of(product)), 1);
  const int64_t most = std::max(kTile, kBytes / row);
  const int64_t chunks = (r + most - 1) / most;
  return chunks <= 1 ? std::max<int64_t>(r, 1) : ((r + chunks - 1) / chunks + kTile - 1) / kTile * kTile;
}

// The loss of every row and, where wanted, the gradients of Σ scale · loss.
Swept sweep(const Projection& p, const Wanted& wanted, const Tensor& scale) {
  NoGrad values;
  const Tensor x = p.rows().detach(), class_weight = p.options.weight.defined() ? p.options.weight.detach() : Tensor();
  const Tensor &weight = p.weight_operand, &bias = p.bias_operand;
  const int64_t r = p.target.numel();
  const auto& o = p.options;
  Swept out;
  out.loss = empty({r}, p.sums(), x.device());
  if (wanted.x) out.dx = empty(x.shape(), p.x.dtype(), x.device());
  if (wanted.weight) out.dweight = empty(weight.shape(), p.sums(), x.device());
  if (wanted.bias) out.dbias = zeros(bias.shape(), {.dtype = p.sums(), .device = x.device()});
  if (r == 0 && wanted.weight) fill_into(out.dweight, 0);
  // Rows begin at multiples of 64 elements: products take their fast kernels whatever the number of classes is.
  const Tensor memory = empty({std::min(p.chunk, r), (p.classes() + 63) / 64 * 64}, p.product, x.device());
  for (int64_t begin = 0; begin < r; begin += p.chunk) {
    const int64_t n = std::min(p.chunk, r - begin);
    const auto part = [&](const Tensor& t) { return narrow(t, 0, begin, n); };
    Tensor logits = slice(narrow(memory, 0, 0, n), 1, 0, p.classes()), loss = part(out.loss);
    if (bias.defined()) copy_into(expand(bias, logits.shape()), logits);
    detail::multiply_into(part(x), transpose(weight, 0, 1), logits, bias.defined());
    if (!wanted.any()) {
      Tensor row_weight = empty_like(loss), lse = empty_like(loss);
      WEFT_KERNEL(x.device(), cross_entropy, logits, part(p.target), class_weight, o.ignore_index, o.label_smoothing,
                  loss, row_weight, lse);
      continue;
    }
    WEFT_KERNEL(x.device(), cross_entropy_over, logits, part(p.target), class_weight, o.ignore_index, o.label_smoothing,
                scale.numel() == 1 ? scale : part(scale), loss);  // from here on logits are their gradient
    if (wanted.x) {
      Tensor dx = part(out.dx);
      detail::multiply_into(logits, weight, dx);
    }
    if (wanted.weight) detail::multiply_into(transpose(logits, 0, 1), part(x), out.dweight, begin > 0);
    if (wanted.bias) out.dbias = add(out.dbias, sum(logits.to(p.sums()), 0));
  }
  if (wanted.x) out.dx = reshape(out.dx, p.x.shape());
  return out;
}

// The gradients as ops, for second order.
Grads composed_backward(const Projection& p, const Tensor& scale) {
  Autocast off(bfloat16, false);
  const Tensor x = p.rows(), weight = p.weight.to(p.product);
  const Tensor logits = linear(x, weight, p.bias.defined() ? p.bias.to(p.product) : p.bias);
  const Tensor d = detail::cross_entropy_gradient(logits, p.target, p.options, scale).to(p.product);
  return {reshape(matmul(d, weight), p.x.shape()), matmul(transpose(d, 0, 1), x),
          p.bias.defined() ? sum(d, 0) : Tensor()};
}

void check_arguments(const Tensor& x, const Tensor& weight, const Tensor& target, const CrossEntropyOptions& o,
                     const Tensor& bias) {
  check(weight.dim() == 2, kName, ": expected a weight [c, d], got ", weight.shape());
  check(x.dim() >= 1 && x.size(-1) == weight.size(1), kName, ": input ", x.shape(), " does not fit weight ",
        weight.shape());
  check(!bias.defined() || bias.shape() == Shape{weight.size(0)}, kName, ": bias ",
        bias.defined() ? bias.shape() : Shape(), " does not fit weight ", weight.shape());
  detail::check_cross_entropy(kName, weight.size(0), o);
  check_same_device(kName, {&x, &weight, &target, &bias, &o.weight});
  check(target.dtype() == int64, kName, ": expected an int64 target, got ", target.dtype());
  const Shape lead(x.shape().begin(), x.shape().end() - 1);
  check(target.shape() == lead, kName, ": input ", x.shape(), " needs a target ", lead, ", got ", target.shape());
}

// In which dtype the product is: that of the operands, as Autocast would have them.
DType product_dtype(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const auto dtype = [](const Tensor& t) {
    return Autocast::active() && t.dtype() == float32 ? Autocast::dtype() : t.dtype();
  };
  check(is_floating(dtype(x)) && dtype(x) == dtype(weight) && (!bias.defined() || dtype(bias) == dtype(x)), kName,
        ": dtypes differ: input ", dtype(x), ", weight ", dtype(weight), ", bias ",
        bias.defined() ? dtype(bias) : dtype(weight));
  return dtype(x);
}

}  // namespace

Tensor linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& target, const CrossEntropyOptions& o,
                            const Tensor& bias, int64_t chunk) {
  check_arguments(x, weight, target, o, bias);
  check(chunk >= 0, kName, ": a chunk must have rows, or 0 to choose, got ", chunk);
  const DType product = product_dtype(x, weight, bias);
  if (chunk == 0) chunk = chunk_rows(target.numel(), weight.size(0), product);
  const auto operand = [](const Tensor& t) { return t.defined() ? Autocast::apply(t).detach().contiguous() : t; };
  Projection p{x,  weight,  bias, operand(weight), operand(bias), reshape(target, {target.numel()}).contiguous(), o,
               {}, product, chunk};
  Tensor row_weight = empty({target.numel()}, p.sums(), x.device());
  WEFT_KERNEL(x.device(), row_weights, kName, p.target, o.weight.defined() ? o.weight.detach() : Tensor(),
              o.ignore_index, p.classes(), row_weight);
  if (o.reduction == Reduction::mean) p.total = detail::guarded(sum(row_weight));
  const Wanted wanted{x.requires_grad(), weight.requires_grad(), bias.defined() && bias.requires_grad()};

  // Gradients are made for an upstream gradient of 1 and multiplied at the end, in every sweep, so that all give the
  // same bits; the first sweep takes what the forward pass has made. Where rows have upstream gradients of their own,
  // and in float16, whose gradients would vanish before a factor that is there to prevent it, they are made in
  // backward.
  const bool ahead = o.reduction != Reduction::none && p.product != float16;
  const Tensor one = ones({1}, {.dtype = p.sums(), .device = x.device()});
  auto ready = std::make_shared<Swept>(
      sweep(p, ahead && grad_enabled() ? wanted : Wanted{}, ahead && wanted.any() ? p.scale(one) : one));
  Tensor loss = std::exchange(ready->loss, Tensor());
  if (o.reduction == Reduction::none) {
    loss = reshape(loss, target.shape());
  } else {
    loss = sum(loss);
    if (p.total.defined()) loss = div(loss, p.total);
  }
  return record(kName, loss, {x, weight, bias}, [p, wanted, ready, ahead, one](const Tensor& dy) -> Grads {
    if (grad_enabled()) return composed_backward(p, p.scale(dy));
    Swept out = ready->has_gradients() ? std::exchange(*ready, Swept()) : sweep(p, wanted, p.scale(ahead ? one : dy));
    for (Tensor* g : {&out.dx, &out.dweight, &out.dbias}) {
      if (ahead && g->defined()) WEFT_KERNEL(g->device(), scale_over, *g, reshape(dy, {1}).to(p.sums()));
    }
    return {out.dx, out.dweight, out.dbias};
  });
}

}  // namespace weft

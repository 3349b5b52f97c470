#include <weft/autograd/autograd.h>
#include <weft/ops/create.h>
#include <weft/ops/kernel.h>
#include <weft/ops/optim.h>

namespace weft {

WEFT_DECLARE_KERNEL(adam, const Tensors& params, const Tensors& grads, const Tensors& m, const Tensors& v,
                    const AdamArgs& args)
WEFT_DECLARE_KERNEL(sgd, const Tensors& params, const Tensors& grads, const Tensors& buffers, const SgdArgs& args)
WEFT_DECLARE_KERNEL(sum_squares, const Tensors& xs, Tensor& y)
WEFT_DECLARE_KERNEL(clip, const Tensors& xs, const Tensor& norm, double max_norm)
WEFT_DECLARE_KERNEL(clip_value, const Tensors& xs, double limit)
WEFT_DECLARE_KERNEL(ema, const Tensors& averages, const Tensors& xs, double decay)

namespace {

// All of one device and contiguous, as the kernels want them; written ones get a new version.
void prepare(const char* op, const Tensors& xs, const Tensors& like, bool written) {
  check(xs.size() == like.size(), op, ": lists differ in length: ", xs.size(), " and ", like.size());
  for (size_t i = 0; i < xs.size(); ++i) {
    check(xs[i].is_floating() && xs[i].is_contiguous(), op, ": tensor ", i, " must be floating and contiguous");
    check(xs[i].shape() == like[i].shape(), op, ": tensor ", i, " has shape ", xs[i].shape(), ", expected ",
          like[i].shape());
    check_same_device(op, {&xs[0], &xs[i], &like[i]});
    check(!written || !xs[i].impl().storage->read_only(), op, ": tensor ", i, " lies in read-only memory");
    if (written) xs[i].impl().storage->bump_version();
  }
}

void check_clip(const char* op, const ClipByNorm& clip, const Tensors& params) {
  if (!clip.norm.defined()) return;
  check(clip.norm.numel() == 1, op, ": the norm to clip by has shape ", clip.norm.shape());
  check_same_device(op, {&params[0], &clip.norm});
}

Tensors contiguous(const Tensors& xs) {
  Tensors out;
  for (const Tensor& x : xs) out.push_back(x.detach().contiguous());
  return out;
}

}  // namespace

void adam_(const Tensors& params, const Tensors& grads, const Tensors& m, const Tensors& v, const AdamArgs& args) {
  if (params.empty()) return;
  check(args.step >= 1, "adam: step counts from 1, got ", args.step);
  const Tensors g = contiguous(grads);
  prepare("adam", params, params, true), prepare("adam", g, params, false);
  check_clip("adam", args.clip, params);
  prepare("adam", m, params, true), prepare("adam", v, params, true);
  WEFT_KERNEL(params[0].device(), adam, params, g, m, v, args);
}

void sgd_(const Tensors& params, const Tensors& grads, const Tensors& buffers, const SgdArgs& args) {
  if (params.empty()) return;
  const Tensors g = contiguous(grads);
  prepare("sgd", params, params, true), prepare("sgd", g, params, false);
  check_clip("sgd", args.clip, params);
  if (args.momentum != 0) prepare("sgd", buffers, params, true);
  WEFT_KERNEL(params[0].device(), sgd, params, g, buffers, args);
}

Tensor sum_squares(const Tensors& xs) {
  if (xs.empty()) return zeros({});
  const Tensors in = contiguous(xs);
  prepare("sum_squares", in, in, false);
  DType dtype = float32;
  for (const Tensor& x : in) dtype = x.dtype() == float64 ? float64 : dtype;
  Tensor y = empty({}, dtype, in[0].device());
  WEFT_KERNEL(in[0].device(), sum_squares, in, y);
  return y;
}

void clip_(const Tensors& xs, const Tensor& norm, double max_norm) {
  if (xs.empty()) return;
  prepare("clip", xs, xs, true);
  WEFT_KERNEL(xs[0].device(), clip, xs, norm, max_norm);
}

void clip_value_(const Tensors& xs, double limit) {
  check(limit >= 0, "clip_value: the limit must not be negative, got ", limit);
  if (xs.empty()) return;
  prepare("clip_value", xs, xs, true);
  WEFT_KERNEL(xs[0].device(), clip_value, xs, limit);
}

void ema_(const Tensors& averages, const Tensors& xs, double decay) {
  if (xs.empty()) return;
  const Tensors in = contiguous(xs);
  prepare("ema", averages, in, true);
  WEFT_KERNEL(in[0].device(), ema, averages, in, decay);
}

}  // namespace weft

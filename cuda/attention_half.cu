#include <weft/cuda/attention_half.h>
#include <weft/ops/copy.h>
#include <weft/cuda/attention_launch.cuh>

namespace weft::cuda {

namespace attention {
template <class T>
void launch_forward(const Problem& p);
template <class T>
void launch_backward(const Problem& p, const float* dlse);
template <class T>
void launch_bias(const Problem& p, Tensor& dbias);
}  // namespace attention

namespace {

using attention::heads;
using attention::Problem;
using attention::problem;

// Whether 16 bytes at a time can be read from each row of x: [b, h, n, d].
bool is_aligned(const Tensor& x) {
  const Shape &size = x.shape(), &stride = x.strides();
  if (size[3] % 8 != 0 || stride[3] != 1 || reinterpret_cast<uintptr_t>(x.raw_data()) % 16 != 0) return false;
  for (int d = 0; d < 3; ++d) {
    if (size[d] > 1 && stride[d] % 8 != 0) return false;
  }
  return true;
}

// Room for x with a last size that is a multiple of 8, and the part of it that is x.
Tensor aligned_room(const Tensor& x) {
  const Shape& s = x.shape();
  const int64_t d = std::max<int64_t>((s[3] + 7) / 8 * 8, 8);
  const Tensor room = empty({s[0], s[2], s[1], d}, x.dtype(), x.device());
  return as_strided_raw(room, {s[0], s[1], s[2], d}, {s[2] * s[1] * d, d, s[1] * d, 1}, 0);
}
Tensor part_of(const Tensor& room, const Tensor& x) {
  return as_strided_raw(room, x.shape(), room.strides(), room.impl().offset);
}

// x itself or a copy that is aligned, with zeros beyond x's last size.
Tensor aligned(const Tensor& x) {
  if (!x.defined() || is_aligned(x)) return x;
  Tensor room = aligned_room(x), part = part_of(room, x);
  if (room.shape()[3] != x.shape()[3]) fill_into(room, 0);
  copy_into(x, part);
  return room;
}

// A result, or aligned room for it that finish() copies from.
struct Result {
  Tensor wanted, room;
  explicit Result(Tensor& x) : wanted(x), room(is_aligned(x) ? x : aligned_room(x)) {}
  void finish() {
    if (!room.same_as(wanted)) copy_into(part_of(room, wanted), wanted);
  }
};

// What a bias is read as: T itself or float32. Converted before it is expanded again.
Tensor readable(const Tensor& x, DType dtype) {
  if (!x.defined() || x.dtype() == dtype || x.dtype() == float32) return x;
  Shape small = x.shape();
  for (int64_t d = 0; d < x.dim(); ++d) small[d] = x.strides()[d] == 0 ? 1 : small[d];
  const Tensor y = as_strided_raw(x, small, x.strides(), x.impl().offset).to(float32);
  Shape strides = y.strides();
  for (int64_t d = 0; d < x.dim(); ++d) strides[d] = x.strides()[d] == 0 ? 0 : strides[d];
  return as_strided_raw(y, x.shape(), strides, 0);
}

bool fits(const Tensor& q, const Tensor& k, const AttentionArgs& args) {
  constexpr int64_t kLong = 1 << 28;
  return is_half(q.dtype()) && q.shape()[3] <= 256 && q.shape()[2] < kLong && k.shape()[2] < kLong &&
         args.sequences(q.shape()[0]) * q.shape()[1] * (q.shape()[2] / 16 + 1) < (int64_t{1} << 31);
}

// f<T>() with T as dtype says.
template <class F>
void dispatch_half(DType dtype, F&& f) {
  if (dtype == bfloat16)
    f(Type<BFloat16>{});
  else
    f(Type<Float16>{});
}

}  // namespace

bool half_forward(const Tensor& q0, const Tensor& k0, const Tensor& v0, const Tensor& mask, const Tensor& bias0,
                  const AttentionArgs& args, Tensor& out0, Tensor& lse) {
  if (!fits(q0, k0, args)) return false;
  const Tensor q = aligned(q0), k = aligned(k0), v = aligned(v0), bias = readable(bias0, q0.dtype());
  Result out(out0);
  Problem p = problem(q, k, v, mask, bias, args);
  p.out = heads(out.room);
  if (lse.defined()) p.lse = lse.data<float>();
  if (args.cu_q.defined()) {  // rows of no sequence
    fill_into(out.room, 0);
    if (lse.defined()) fill_into(lse, attention::kNone);
  }
  dispatch_half(q.dtype(), [&]<class T>(Type<T>) { attention::launch_forward<T>(p); });
  out.finish();
  return true;
}

bool half_backward(const Tensor& q0, const Tensor& k0, const Tensor& v0, const Tensor& mask, const Tensor& bias0,
                   const AttentionArgs& args, const Tensor& out0, const Tensor& lse, const Tensor& dout0,
                   const Tensor& dlse, Tensor& dq0, Tensor& dk0, Tensor& dv0, Tensor& dbias) {
  if (!fits(q0, k0, args)) return false;
  const Tensor q = aligned(q0), k = aligned(k0), v = aligned(v0), out = aligned(out0), dout = aligned(dout0),
               bias = readable(bias0, q0.dtype()),
               delta = empty({q0.shape()[0] * q0.shape()[1] * q0.shape()[2]}, float32, q0.device());
  Result dq(dq0), dk(dk0), dv(dv0);
  Problem p = problem(q, k, v, mask, bias, args);
  p.out = heads(out), p.dout = heads(dout), p.dq = heads(dq.room), p.dk = heads(dk.room), p.dv = heads(dv.room);
  p.delta = delta.data<float>();
  if (lse.defined()) p.lse = lse.data<float>();
  const bool unseen = p.kv_length || p.cu_q || p.m == 0 || p.left < p.m || (p.right < p.m && p.n > p.m);
  if (unseen) fill_into(dq.room, 0);
  if (p.cu_k || p.n == 0) fill_into(dk.room, 0), fill_into(dv.room, 0);
  dispatch_half(q.dtype(), [&]<class T>(Type<T>) {
    attention::launch_backward<T>(p, dlse.defined() ? dlse.data<float>() : nullptr);
    if (dbias.defined()) attention::launch_bias<T>(p, dbias);
  });
  dq.finish(), dk.finish(), dv.finish();
  return true;
}

}  // namespace weft::cuda

#include <weft/cuda/attention_half.h>
#include <weft/ops/copy.h>
#include <weft/cuda/attention_problem.cuh>

namespace weft::cuda {

namespace attention {
template <class T>
void launch_forward(const Problem& p);
}  // namespace attention

namespace {

using attention::Heads;
using attention::Problem;
using attention::Scores;

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

Heads heads(const Tensor& x) {
  if (!x.defined()) return {};
  const Shape& s = x.strides();
  return {x.raw_data(), s[0], s[1], s[2]};
}

Scores scores(const Tensor& x) {
  if (!x.defined()) return {};
  const Shape& s = x.strides();
  return {data_of(x), s[0], s[1], s[2], s[3]};
}

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

// Tensors must outlive the launches that read the problem.
Problem problem(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                const AttentionArgs& args) {
  Problem p{};
  p.device = q.device();
  p.q = heads(q), p.k = heads(k), p.v = heads(v), p.mask = scores(mask), p.bias = scores(bias);
  p.sequences = static_cast<int>(args.sequences(q.shape()[0]));
  p.h = static_cast<int>(q.shape()[1]), p.hk = static_cast<int>(k.shape()[1]);
  p.n = static_cast<int>(q.shape()[2]), p.m = static_cast<int>(k.shape()[2]);
  p.d = static_cast<int>(q.shape()[3]), p.dv_size = static_cast<int>(v.shape()[3]);
  p.max_q = static_cast<int>(args.max_q), p.max_k = static_cast<int>(args.max_k);
  constexpr int64_t kFar = 1 << 29;
  p.left = static_cast<int>(std::min(args.left, kFar)), p.right = static_cast<int>(std::min(args.right, kFar));
  if (args.alibi.defined()) {
    p.alibi = args.alibi.data<float>();
    p.alibi_b = args.alibi.strides()[0], p.alibi_h = args.alibi.strides()[1];
  }
  if (args.kv_length.defined())
    p.kv_length = args.kv_length.data<int64_t>(), p.kv_length_b = args.kv_length.strides()[0];
  if (args.cu_q.defined()) p.cu_q = args.cu_q.data<int64_t>(), p.cu_k = args.cu_k.data<int64_t>();
  p.fn = args.fn;
  p.scale = static_cast<float>(args.scale), p.dropout = static_cast<float>(args.dropout);
  p.random = philox_at(args.at);
  return p;
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

}  // namespace weft::cuda

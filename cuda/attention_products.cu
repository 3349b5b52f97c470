// A softmax needs a whole row of scores before it has one weight; relu² and Laplace make each weight of one score. Then
// nothing is gained by keeping the tile of scores in registers, and much is lost where the values are wide: GAU's have
// hundreds of features, for which a tiled kernel computes the scores again and again. Here scores are a product,
// weights a walk over it, the result another product, all on a block of queries and heads whose scores stay in the L2
// cache:
//
//   s = q kᵀ    w = f(scale·s + bias), 0 where hidden or dropped    out = w v
//   dw = dout vᵀ    ds = dw·f'(scale·s + bias), 0 where w is    dv = wᵀ dout    dq = scale·ds k    dk = scale·dsᵀ q
//
// Scores and dw are float32, w and ds bfloat16; not for float16, which has not the range for scale·ds.
#include <weft/cuda/attention_products.h>

#include <weft/cuda/blas.h>
#include <weft/ops/copy.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/reduce_op.h>
#include <weft/ops/shape.h>
#include <weft/cuda/attention_launch.cuh>
#include <weft/cuda/rows.cuh>

#include <algorithm>

namespace weft::cuda {

void reduce(ReduceOp op, const Tensor& x, Tensor& y);

namespace {

using attention::Problem;

constexpr int64_t kBlockBytes = 20 << 20;  // of float32 scores at a time
constexpr int64_t kMinRows = 64;           // of a block of queries, however long their rows are
constexpr int kStep = 8;                   // scores that a thread takes: 16 bytes of weights

// Which queries and heads are being worked on, and how their scores lie: [nb, nh, rows, stride], cols of each row real.
struct Block {
  int b0, nb, h0, nh, i0, rows, cols, stride;
  int64_t batch() const { return int64_t{nb} * nh; }
  int64_t scores() const { return batch() * rows * stride; }
};

// The scores at p, of which n are in their row; what follows a row's end is not read.
__device__ RowPack<float, kStep> read_scores(const float* p, int n) {
  RowPack<float, kStep> x{};
  if (n >= kStep) return *reinterpret_cast<const RowPack<float, kStep>*>(p);
#pragma unroll
  for (int e = 0; e < kStep; ++e)
    if (e < n) x.v[e] = p[e];
  return x;
}

// s → w, and on the way back ds from dw, which also stays in dw, without the scale, where keep says so.
template <bool kBackward>
__global__ void weights_kernel(Problem p, Block at, uint32_t steps, const float* __restrict__ s,
                               BFloat16* __restrict__ w, float* __restrict__ dw, BFloat16* __restrict__ ds, bool keep) {
  const uint32_t row_steps = static_cast<uint32_t>(at.stride) / kStep, rows = static_cast<uint32_t>(at.rows),
                 heads = static_cast<uint32_t>(at.nh);
  const float kept = attention::kept(p);
  Generator::State random{};
  if (p.dropout > 0) random = p.random.get();
  for (uint32_t x = blockIdx.x * blockDim.x + threadIdx.x; x < steps; x += gridDim.x * blockDim.x) {
    const uint32_t r = x / row_steps, z = r / rows;
    const int j0 = static_cast<int>(x % row_steps) * kStep, i = static_cast<int>(r % rows) + at.i0,
              b = static_cast<int>(z / heads) + at.b0, h = static_cast<int>(z % heads) + at.h0;
    const int64_t place = int64_t{x} * kStep;
    const RowPack<float, kStep> score = read_scores(s + place, at.cols - j0);
    RowPack<float, kStep> g{};
    if constexpr (kBackward) g = read_scores(dw + place, at.cols - j0);
    const bool* mask = static_cast<const bool*>(p.mask.data.data);
    if (mask) mask += b * p.mask.b + h * p.mask.h + i * p.mask.n;
    const int64_t bias = b * p.bias.b + h * p.bias.h + i * p.bias.n;
    const float slope = p.alibi ? p.alibi[b * p.alibi_b + h * p.alibi_h] : 0.0f;
    const int64_t drawn = ((static_cast<int64_t>(b) * p.h + h) * p.max_q + i) * p.max_k + j0;
    RowPack<BFloat16, kStep> weight, slopes;
#pragma unroll
    for (int e = 0; e < kStep; ++e) {
      const int j = j0 + e, distance = (i - p.n) - (j - p.m);
      const bool seen = j < at.cols && distance <= p.left && distance >= -p.right && (!mask || mask[j * p.mask.m]);
      float y = 0, dy = 0;
      if (seen) {
        float a = p.scale * score.v[e] - slope * static_cast<float>(::abs(distance));
        if (p.bias.data.data) a += p.bias.data.load<float>(bias + j * p.bias.m);
        const float factor = p.dropout == 0                                                                ? 1
                             : to_uniform(philox_word(random.seed, random.offset, drawn + e)) >= p.dropout ? kept
                                                                                                           : 0;
        const bool square = p.fn == AttentionFn::relu_squared;
        y = factor * (square ? fn::ReluSquared{}(a) : fn::Laplace{}(a));
        if constexpr (kBackward)
          dy = factor * g.v[e] * (square ? fn::ReluSquared{}.derivative(a) : fn::Laplace{}.derivative(a));
      }
      weight.v[e] = narrow<BFloat16>(y);
      if constexpr (kBackward) slopes.v[e] = narrow<BFloat16>(p.scale * dy), g.v[e] = dy;
    }
    *reinterpret_cast<RowPack<BFloat16, kStep>*>(w + place) = weight;
    if constexpr (kBackward) {
      *reinterpret_cast<RowPack<BFloat16, kStep>*>(ds + place) = slopes;
      if (keep) *reinterpret_cast<RowPack<float, kStep>*>(dw + place) = g;
    }
  }
}

// --- the host's side -------------------------------------------------------------------------------------------------

bool fits(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionArgs& args) {
  const int64_t n = q.shape()[2], m = k.shape()[2];
  return q.dtype() == bfloat16 && args.fn != AttentionFn::softmax && v.shape()[3] >= 128 &&
         q.shape()[1] == k.shape()[1] && !args.kv_length.defined() && !args.cu_q.defined() && args.left >= m &&
         q.numel() > 0 && k.numel() > 0 && v.numel() > 0 && n < (1 << 28) && m < (1 << 22) && q.shape()[0] < (1 << 28);
}

// Rows that lie apart, their elements side by side.
Tensor with_rows(const Tensor& x) {
  const Shape &size = x.shape(), &stride = x.strides();
  return stride[3] == 1 && (size[2] == 1 || stride[2] >= size[3]) ? x : x.contiguous();
}

// Whether in each of these all heads of all sequences lie at one distance from the next.
bool are_even(std::initializer_list<const Tensor*> all) {
  return std::all_of(all.begin(), all.end(), [](const Tensor* x) {
    return x->shape()[0] == 1 || x->shape()[1] == 1 || x->strides()[0] == x->shape()[1] * x->strides()[1];
  });
}

// The block's heads of x: [b, h, n, d], rows [from, from + rows) of each.
Matrices part(const Tensor& x, const Block& at, int64_t from, int64_t rows) {
  const Shape& stride = x.strides();
  const int64_t offset = at.b0 * stride[0] + at.h0 * stride[1] + from * stride[2], step = at.batch() == 1 ? 0
                                                                                          : x.shape()[1] == 1
                                                                                              ? stride[0]
                                                                                              : stride[1];
  return {static_cast<char*>(x.raw_data()) + offset * static_cast<int64_t>(size_of(x.dtype())),
          x.dtype(),
          rows,
          x.shape()[3],
          stride[2],
          1,
          step};
}
Matrices queries(const Tensor& x, const Block& at) { return part(x, at, at.i0, at.rows); }
Matrices keys(const Tensor& x, const Block& at) { return part(x, at, 0, at.cols); }

// A buffer of scores as the matrices [rows, cols] of the block.
Matrices scores(const Tensor& x, const Block& at) {
  return {x.raw_data(), x.dtype(), at.rows, at.cols, at.stride, 1, at.batch() == 1 ? 0 : int64_t{at.rows} * at.stride};
}

void product(const Matrices& a, const Matrices& b, const Matrices& y, const Block& at, bool accumulate = false) {
  multiply({.op = "attention", .a = a, .b = b, .y = y, .batch = at.batch(), .accumulate = accumulate});
}

// All scores in blocks of whole sequences where those are small, of heads of one, or of queries of one head. even:
// whether sequences may be taken together.
std::vector<Block> blocks(const Problem& p, bool even) {
  const auto stride = [](int cols) { return (cols + kStep - 1) / kStep * kStep; };
  const int64_t row = int64_t{stride(p.m)} * 4, room = std::max<int64_t>(kBlockBytes / row, 1);  // in rows
  const int b = p.sequences, h = p.h;
  int nb = 1, nh = 1, rows = p.n;
  if (even && room / p.n >= h)
    nb = static_cast<int>(std::min<int64_t>(room / p.n / h, b)), nh = h;
  else if (room >= p.n)
    nh = static_cast<int>(std::min<int64_t>(room / p.n, h));
  else
    rows = static_cast<int>(std::min<int64_t>(std::max(room / kMinRows, int64_t{1}) * kMinRows, p.n));
  std::vector<Block> all;
  for (int b0 = 0; b0 < b; b0 += nb)
    for (int h0 = 0; h0 < h; h0 += nh)
      for (int i0 = 0; i0 < p.n; i0 += rows) {
        Block at{b0, std::min(nb, b - b0), h0, std::min(nh, h - h0), i0, std::min(rows, p.n - i0), p.m, 0};
        const int64_t seen = int64_t{i0} + at.rows - p.n + p.m + p.right;  // keys that the last of these queries sees
        at.cols = static_cast<int>(std::clamp<int64_t>(seen, 1, p.m)), at.stride = stride(at.cols);
        all.push_back(at);
      }
  return all;
}

template <bool kBackward>
void weights(const Problem& p, const Block& at, const Tensor& s, const Tensor& w, const Tensor& dw, const Tensor& ds,
             bool keep) {
  const int64_t steps = at.scores() / kStep;
  launch("attention", steps, weights_kernel<kBackward>, p, at, static_cast<uint32_t>(steps), s.data<float>(),
         w.data<BFloat16>(), kBackward ? dw.data<float>() : nullptr, kBackward ? ds.data<BFloat16>() : nullptr, keep);
}

// Adds the block's ds, [nb, nh, rows, stride] in float32, to dbias, which is 1 where the bias was broadcast.
void add_to_bias(const Tensor& ds, const Block& at, bool only, Tensor& dbias) {
  const int64_t row = at.stride, head = row * at.rows;
  const Tensor all = as_strided_raw(ds, {at.nb, at.nh, at.rows, at.cols}, {head * at.nh, head, row, 1}, 0);
  Tensor to = dbias;
  const int64_t from[4] = {at.b0, at.h0, at.i0, 0};
  for (int64_t d = 0; d < 4; ++d)
    if (dbias.shape()[d] > 1) to = narrow(to, d, from[d], all.shape()[d]);
  if (only) return reduce(ReduceOp::sum, all, to);
  Tensor sums = empty(to.shape(), float32, dbias.device());
  reduce(ReduceOp::sum, all, sums);
  copy_into(add(to, sums), to);
}

int64_t largest(const std::vector<Block>& all) {
  int64_t n = 0;
  for (const Block& at : all) n = std::max(n, at.scores());
  return n;
}

}  // namespace

bool products_forward(const Tensor& q0, const Tensor& k0, const Tensor& v0, const Tensor& mask, const Tensor& bias,
                      const AttentionArgs& args, Tensor& out) {
  if (!fits(q0, k0, v0, args)) return false;
  const Tensor q = with_rows(q0), k = with_rows(k0), v = with_rows(v0);
  const Problem p = attention::problem(q, k, v, mask, bias, args);
  const auto all = blocks(p, are_even({&q, &k, &v, &out}));
  const Tensor s = empty({largest(all)}, float32, q.device()), w = empty({largest(all)}, q.dtype(), q.device());
  for (const Block& at : all) {
    product(queries(q, at), transposed(keys(k, at)), scores(s, at), at);
    weights<false>(p, at, s, w, {}, {}, false);
    product(scores(w, at), keys(v, at), queries(out, at), at);
  }
  return true;
}

bool products_backward(const Tensor& q0, const Tensor& k0, const Tensor& v0, const Tensor& mask, const Tensor& bias,
                       const AttentionArgs& args, const Tensor& dout0, Tensor& dq, Tensor& dk, Tensor& dv,
                       Tensor& dbias) {
  if (!fits(q0, k0, v0, args)) return false;
  const Tensor q = with_rows(q0), k = with_rows(k0), v = with_rows(v0), dout = with_rows(dout0);
  const Problem p = attention::problem(q, k, v, mask, bias, args);
  const auto all = blocks(p, are_even({&q, &k, &v, &dout, &dq, &dk, &dv}));
  const int64_t room = largest(all);
  const Tensor s = empty({room}, float32, q.device()), dw = empty({room}, float32, q.device()),
               w = empty({room}, q.dtype(), q.device()), ds = empty({room}, q.dtype(), q.device());
  // Several blocks of queries of one head add to its keys and values: in float32.
  const bool add_up = all[0].rows < p.n;
  Tensor sum_k = dk, sum_v = dv;
  if (add_up) {
    sum_k = empty(dk.shape(), float32, q.device()), sum_v = empty(dv.shape(), float32, q.device());
    fill_into(sum_k, 0), fill_into(sum_v, 0);
  }
  for (const Block& at : all) {
    product(queries(q, at), transposed(keys(k, at)), scores(s, at), at);
    product(queries(dout, at), transposed(keys(v, at)), scores(dw, at), at);
    weights<true>(p, at, s, w, dw, ds, dbias.defined());
    product(transposed(scores(w, at)), queries(dout, at), keys(sum_v, at), at, add_up);
    product(scores(ds, at), keys(k, at), queries(dq, at), at);
    product(transposed(scores(ds, at)), queries(q, at), keys(sum_k, at), at, add_up);
    if (dbias.defined()) add_to_bias(dw, at, all.size() == 1, dbias);
  }
  if (add_up) copy_into(sum_k, dk), copy_into(sum_v, dv);
  return true;
}

}  // namespace weft::cuda

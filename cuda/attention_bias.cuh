// The gradient of attention's bias: a block takes one tile of the bias and walks over all (batch, head, queries, keys)
// that share it, making their score gradients anew as attention_backward.cuh does. Where few tiles are shared by many,
// several blocks take a slice each and a second kernel adds the slices in order.
#pragma once

#include <weft/cuda/attention_backward.cuh>

namespace weft::cuda::attention {

struct BiasPlan {
  int own[4], shared[4];  // batch, heads, tiles of queries, tiles of keys: in the bias, and that share each
  int64_t stride[4];      // of the gradient, 0 where it is shared
  int slices;
  int64_t size;  // elements of the gradient
  float* to;     // [slices, size]
};

template <class T, int D>
using BiasTiles = Backward < T,
      D, D<128 ? D : 128, Part::keys, true>;

template <class C>
__global__ void __launch_bounds__(C::kThreads, C::D <= 128 ? 2 : 1)
    bias_kernel(const __grid_constant__ Problem p, const __grid_constant__ BiasPlan plan) {
  using T = typename C::T;
  using Keys = typename C::Keys;
  using Values = typename C::Values;
  using Queries = typename C::Queries;
  using Douts = typename C::Douts;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t4 = lane % 4;
  int at[4], rest = blockIdx.x, shares = 1;
  for (int d = 3; d >= 0; --d) at[d] = rest % plan.own[d], rest /= plan.own[d], shares *= plan.shared[d];

  const uint32_t shared = mma::shared_base();
  const Keys keys{shared};
  const Values values{shared + Keys::kBytes};
  const Queries queries{shared + Keys::kBytes + Values::kBytes};
  const Douts douts{shared + Keys::kBytes + Values::kBytes + Queries::kBytes};
  const uint32_t stats = shared + Keys::kBytes + Values::kBytes + Queries::kBytes + Douts::kBytes;
  mma::Accumulator<1, C::kQueries / 8> sum;
  sum.clear();

  const int first = static_cast<int>(int64_t{shares} * blockIdx.y / plan.slices),
            end = static_cast<int>(int64_t{shares} * (blockIdx.y + 1) / plan.slices);
  for (int share = first; share < end; ++share) {
    int in[4], left = share;
    for (int d = 3; d >= 0; --d) in[d] = plan.own[d] == 1 ? left % plan.shared[d] : at[d], left /= plan.shared[d];
    const Sequence s(p, in[0]);
    const int head = in[1], kv_head = head / (p.h / p.hk), i0 = in[2] * C::kQueries, j0 = in[3] * C::kKeys;
    if (s.limit(min(i0 + C::kQueries, s.n) - 1) <= j0 || s.first(i0) >= min(j0 + C::kKeys, s.m)) continue;

    __syncthreads();  // nobody reads the last tiles
    const T* k = p.k.at<const T>(s.b, kv_head, j0);
    const T* q = p.q.at<const T>(s.b, head, i0);
    keys.template fetch<C::kThreads>(k, p.k.n, s.m - j0, p.d);
    queries.template fetch<C::kThreads>(q, p.q.n, s.n - i0, p.d);
    if (p.softmax() && threadIdx.x < 2 * C::kQueries) {
      const int which = threadIdx.x / C::kQueries, r = threadIdx.x % C::kQueries;
      const bool wanted = i0 + r < s.n;
      const int64_t row = (static_cast<int64_t>(s.b) * p.h + head) * p.n + i0 + (wanted ? r : 0);
      mma::copy4(stats + threadIdx.x * 4, (which ? p.delta : p.lse) + row, wanted);
    }
    mma::Accumulator<1, C::kQueries / 8> w, dw;
    w.clear(), dw.clear();
    for (int c = 0; c < p.dv_size; c += C::DV) {
      if (c > 0) __syncthreads();
      const T* v = p.v.at<const T>(s.b, kv_head, j0) + c;
      const T* dout = p.dout.at<const T>(s.b, head, i0) + c;
      values.template fetch<C::kThreads>(v, p.v.n, s.m - j0, p.dv_size - c);
      douts.template fetch<C::kThreads>(dout, p.dout.n, s.n - i0, p.dv_size - c);
      mma::commit_copies();
      mma::wait_copies<0>();
      __syncthreads();
      mma::product_nt<T, Values, Douts, C::DV / 16>(dw, Values::at(values.lane(lane), warp * 16, 0),
                                                    douts.lane_across(lane), (min(C::DV, p.dv_size - c) + 15) / 16);
    }
    mma::product_nt<T, Keys, Queries, C::D / 16>(w, Keys::at(keys.lane(lane), warp * 16, 0), queries.lane_across(lane),
                                                 (p.d + 15) / 16);
    weights_and_gradients<T, true>(w, dw, Place<true>{i0, j0 + warp * 16, g, t4}, p, s, head, stats, C::kQueries * 4);
#pragma unroll
    for (int n = 0; n < C::kQueries / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) sum.c[0][n][e] += dw.c[0][n][e];
  }

  // The tile into shared memory, [keys, queries]; from there, added over what the bias does not tell apart.
  __syncthreads();
  float* tile = reinterpret_cast<float*>(mma::dynamic_shared);
  constexpr int kStride = C::kQueries + 1;
#pragma unroll
  for (int n = 0; n < C::kQueries / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      tile[(warp * 16 + g + (e >> 1) * 8) * kStride + n * 8 + t4 * 2 + (e & 1)] = sum.c[0][n][e];
  __syncthreads();
  const bool all_queries = plan.stride[2] == 0, all_keys = plan.stride[3] == 0;
  const int i0 = at[2] * C::kQueries, j0 = at[3] * C::kKeys, queries_out = all_queries ? 1 : C::kQueries,
            keys_out = all_keys ? 1 : C::kKeys;
  float* to = plan.to + blockIdx.y * plan.size + at[0] * plan.stride[0] + at[1] * plan.stride[1];
  for (int o = threadIdx.x; o < queries_out * keys_out; o += C::kThreads) {
    const int i = o / keys_out, j = o % keys_out;
    if ((!all_queries && i0 + i >= p.n) || (!all_keys && j0 + j >= p.m)) continue;
    float total = 0;
    for (int jj = j; jj < (all_keys ? C::kKeys : j + 1); ++jj)
      for (int ii = i; ii < (all_queries ? C::kQueries : i + 1); ++ii) total += tile[jj * kStride + ii];
    to[(i0 + i) * plan.stride[2] + (j0 + j) * plan.stride[3]] = total;
  }
}

/// to[i] = Σ of the slices of part, in order.
template <class T>
__global__ void add_slices_kernel(const float* part, int slices, int64_t size, float* to) {
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < size; i += gridDim.x * int64_t{kThreads}) {
    float sum = 0;
    for (int s = 0; s < slices; ++s) sum += part[s * size + i];
    to[i] = sum;
  }
}

template <class C>
void run_bias(const Problem& p, Tensor& dbias) {
  BiasPlan plan{};
  const int all[4] = {p.sequences, p.h, (p.n + C::kQueries - 1) / C::kQueries, (p.m + C::kKeys - 1) / C::kKeys};
  int owned = 1;
  int64_t shares = 1;
  for (int d = 0; d < 4; ++d) {
    const bool is_shared = dbias.shape()[d] == 1;
    plan.own[d] = is_shared ? 1 : all[d], plan.shared[d] = is_shared ? all[d] : 1;
    plan.stride[d] = is_shared ? 0 : dbias.strides()[d];
    owned *= plan.own[d], shares *= plan.shared[d];
  }
  if (owned == 0 || shares == 0) return;
  plan.size = dbias.shape().numel();
  plan.slices = static_cast<int>(std::clamp<int64_t>(2 * kProcessors / owned, 1, std::min<int64_t>(shares, 32)));
  Tensor part;
  if (plan.slices > 1) part = empty({plan.slices * plan.size}, float32, p.device);
  plan.to = plan.slices > 1 ? part.data<float>() : dbias.data<float>();
  constexpr int kTiles = C::Keys::kBytes + C::Values::kBytes + C::Queries::kBytes + C::Douts::kBytes + C::kStats,
                kSum = C::kKeys * (C::kQueries + 1) * 4, kShared = std::max(kTiles, kSum);
  launch_shared(bias_kernel<C>, dim3(static_cast<unsigned>(owned), static_cast<unsigned>(plan.slices)), C::kThreads,
                kShared, p, plan);
  if (plan.slices > 1)
    launch_shared(add_slices_kernel<typename C::T>,
                  dim3(static_cast<unsigned>(std::min<int64_t>((plan.size + kThreads - 1) / kThreads, 132 * 16))),
                  kThreads, 0, part.data<float>(), plan.slices, plan.size, dbias.data<float>());
}

/// dbias: float32, contiguous, four dimensions, 1 where it is shared; p as for launch_backward, which has run.
template <class T>
void launch_bias(const Problem& p, Tensor& dbias) {
  if (p.d <= 64 && p.dv_size <= 64)
    run_bias<BiasTiles<T, 64>>(p, dbias);
  else if (p.d <= 128)
    run_bias<BiasTiles<T, 128>>(p, dbias);
  else
    run_bias<BiasTiles<T, 256>>(p, dbias);
}

}  // namespace weft::cuda::attention

// The optimisers' kernels: each walks all parameters in one launch (multi_tensor.cuh). Whatever changes from step to
// step is Replayed, so a captured step trains on.
#include <weft/ops/optim.h>
#include <weft/cuda/multi_tensor.cuh>

#include <cmath>

namespace weft::cuda {

namespace {

struct AdamStep {
  double step_size, root, keep;  // lr / (1-β₁ᵗ), 1 / √(1-β₂ᵗ), 1 - lr·decay
};

AdamStep adam_step(const AdamArgs& a) {
  const double t = static_cast<double>(a.step);
  return {a.lr / (1 - std::pow(a.beta1, t)), 1 / std::sqrt(1 - std::pow(a.beta2, t)),
          a.decoupled ? 1 - a.lr * a.weight_decay : 1};
}

// What gradients are multiplied with: min(1, max_norm / (norm + 1e-6)); 1 without a norm.
struct ClipFactor {
  Data norm;
  double max_norm;
  explicit ClipFactor(const ClipByNorm& clip) : ClipFactor(clip.norm, clip.max_norm) {}
  ClipFactor(const Tensor& norm, double max_norm) : norm(data_of(norm)), max_norm(max_norm) {}
  __device__ double get() const {
    if (!norm.data) return 1;
    const double factor = max_norm / (norm.load<double>(0) + 1e-6);
    return factor >= 1 ? 1 : factor;
  }
};

template <class C>
struct AdamUpdate {  // lists: param, grad, m, v
  Replayed<AdamStep> now;
  ClipFactor clip;
  C b1, b2, one_b1, one_b2, eps, decay;
  C step_size = 0, root = 0, keep = 0, factor = 1;
  __device__ bool start() {
    const AdamStep s = now.get();
    step_size = C(s.step_size), root = C(s.root), keep = C(s.keep);
    factor = C(clip.get());
    return true;
  }
  __device__ void update(C (&x)[4]) const {
    const C p = x[0], g = x[1] * factor + decay * p;
    const C m = b1 * x[2] + one_b1 * g, v = b2 * x[3] + one_b2 * g * g;
    x[0] = p * keep - step_size * m / (std::sqrt(v) * root + eps);
    x[2] = m, x[3] = v;
  }
};

struct SgdStep {
  double lr, keep, take;  // momentum ← keep·momentum + take·gradient
};

SgdStep sgd_step(const SgdArgs& a) { return {a.lr, a.first ? 0 : a.momentum, a.first ? 1 : 1 - a.dampening}; }

template <class C, int L>
struct SgdUpdate {  // lists: param, grad and, with momentum, buffer
  Replayed<SgdStep> now;
  ClipFactor clip;
  C decay, momentum;
  bool nesterov;
  C lr = 0, keep = 0, take = 0, factor = 1;
  __device__ bool start() {
    const SgdStep s = now.get();
    lr = C(s.lr), keep = C(s.keep), take = C(s.take);
    factor = C(clip.get());
    return true;
  }
  __device__ void update(C (&x)[L]) const {
    C g = x[1] * factor + decay * x[0];
    if constexpr (L == 3) {
      x[2] = (keep == C(0) ? C(0) : keep * x[2]) + take * g;
      g = nesterov ? g + momentum * x[2] : x[2];
    }
    x[0] -= lr * g;
  }
};

template <class C>
struct Clip {
  ClipFactor clip;
  C factor = 1;
  __device__ bool start() {
    const double f = clip.get();
    factor = C(f);
    return f != 1;
  }
  __device__ void update(C (&x)[1]) const { x[0] *= factor; }
};

template <class C>
struct ClipValue {
  C limit;
  __device__ bool start() const { return true; }
  __device__ void update(C (&x)[1]) const { x[0] = x[0] > limit ? limit : x[0] < -limit ? -limit : x[0]; }
};

template <class C>
struct Average {  // lists: average, x
  C decay, rest;
  __device__ bool start() const { return true; }
  __device__ void update(C (&x)[2]) const { x[0] = decay * x[0] + rest * x[1]; }
};

// The sum over a block, for thread 0; always in the same order.
template <int Threads>
__device__ double sum_of_block(double mine) {
  __shared__ double part[Threads / 32];
  for (int lane = 16; lane > 0; lane /= 2) mine += __shfl_down_sync(0xffffffffu, mine, lane);
  __syncthreads();
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = mine;
  __syncthreads();
  double sum = 0;
  for (int w = 0; w < Threads / 32; ++w) sum += part[w];
  return sum;
}

// partial[b] ← Σ x² over the chunks of block b: 16 terms of a thread in C, the rest in double.
template <class C>
__global__ void square_chunks_kernel(__grid_constant__ const Table<1> table, double* partial) {
  double total = 0;
  for (int k = blockIdx.x; k < table.chunks(); k += gridDim.x) {
    const Chunk<1> chunk(table, k);
    const int64_t whole = chunk.wide ? chunk.begin + (chunk.end - chunk.begin) / 4 * 4 : chunk.begin;
    C sum = 0;
#pragma unroll 4
    for (int64_t i = chunk.begin + 4 * threadIdx.x; i < whole; i += 4 * kThreads) {
      C v[4];
      load4(chunk.list[0], i, v);
      for (int j = 0; j < 4; ++j) sum += v[j] * v[j];
    }
    for (int64_t i = whole + threadIdx.x; i < chunk.end; i += kThreads) {
      const C v = chunk.list[0].template load<C>(i);
      sum += v * v;
    }
    total += static_cast<double>(sum);
  }
  total = sum_of_block<kThreads>(total);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

constexpr int kSumThreads = 1024;

__global__ void sum_partials_kernel(const double* partial, int n, Data y) {  // one block
  double sum = 0;
  for (int i = threadIdx.x; i < n; i += kSumThreads) sum += partial[i];
  const double total = sum_of_block<kSumThreads>(sum);
  if (threadIdx.x == 0) y.store(0, total);
}

}  // namespace

void adam(const Tensors& params, const Tensors& grads, const Tensors& m, const Tensors& v, const AdamArgs& a) {
  DeviceScope scope(params[0]);
  const auto now = replayed<AdamStep>(adam_step(a), [a] { return adam_step(a.next ? a.next() : a); });
  update_all<0b1101>("adam", {&params, &grads, &m, &v}, [&]<class C>(Type<C>) {
    return AdamUpdate<C>{now,
                         ClipFactor(a.clip),
                         C(a.beta1),
                         C(a.beta2),
                         C(1 - a.beta1),
                         C(1 - a.beta2),
                         C(a.eps),
                         C(a.decoupled ? 0 : a.weight_decay)};
  });
}

void sgd(const Tensors& params, const Tensors& grads, const Tensors& buffers, const SgdArgs& a) {
  DeviceScope scope(params[0]);
  const auto now = replayed<SgdStep>(sgd_step(a), [a] { return sgd_step(a.next ? a.next() : a); });
  if (a.momentum == 0) {
    update_all<0b01>("sgd", {&params, &grads}, [&]<class C>(Type<C>) {
      return SgdUpdate<C, 2>{now, ClipFactor(a.clip), C(a.weight_decay), C(0), false};
    });
  } else {
    update_all<0b101>("sgd", {&params, &grads, &buffers}, [&]<class C>(Type<C>) {
      return SgdUpdate<C, 3>{now, ClipFactor(a.clip), C(a.weight_decay), C(a.momentum), a.nesterov};
    });
  }
}

// Which chunks a block sums depends on sizes alone, so the order of the sum does too.
void sum_squares(const Tensors& xs, Tensor& y) {
  DeviceScope scope(y);
  const auto launches = static_cast<int64_t>(xs.size()) / kTensorsALaunch + 2;  // the last of each type is not full
  const Tensor partial = empty({launches * kMultiBlocks}, float64, y.device());
  int used = 0;
  auto squares = [&]<class C>(Type<C>) {
    for_tables<C>({&xs}, [&](const Table<1>& table, int chunks) {
      const int blocks = std::min(chunks, kMultiBlocks);
      square_chunks_kernel<C><<<blocks, kThreads, 0, stream()>>>(table, partial.data<double>() + used);
      check_cuda(cudaGetLastError(), "sum_squares");
      used += blocks;
    });
  };
  squares(Type<float>{});
  squares(Type<double>{});
  sum_partials_kernel<<<1, kSumThreads, 0, stream()>>>(partial.data<double>(), used, data_of(y));
  check_cuda(cudaGetLastError(), "sum_squares");
}

void clip(const Tensors& xs, const Tensor& norm, double max_norm) {
  DeviceScope scope(norm);
  update_all<0b1>("clip", {&xs}, [&]<class C>(Type<C>) { return Clip<C>{ClipFactor(norm, max_norm)}; });
}

void clip_value(const Tensors& xs, double limit) {
  DeviceScope scope(xs[0]);
  update_all<0b1>("clip_value", {&xs}, [&]<class C>(Type<C>) { return ClipValue<C>{C(limit)}; });
}

void ema(const Tensors& averages, const Tensors& xs, double decay) {
  DeviceScope scope(xs[0]);
  update_all<0b01>("ema", {&averages, &xs}, [&]<class C>(Type<C>) { return Average<C>{C(decay), C(1 - decay)}; });
}

}  // namespace weft::cuda

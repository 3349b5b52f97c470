#include <weft/ops/optim.h>
#include <weft/cuda/common.cuh>

#include <cmath>

namespace weft::cuda {

namespace {

template <class C>
__global__ void adam_kernel(Data param, Data grad, C* m, C* v, int64_t n, C b1, C b2, C one_b1, C one_b2, C eps,
                            C step_size, C root, C keep, C decay) {
  WEFT_GRID_LOOP(i, n) {
    const C p = param.load<C>(i), g = grad.load<C>(i) + decay * p;
    m[i] = b1 * m[i] + one_b1 * g;
    v[i] = b2 * v[i] + one_b2 * g * g;
    param.store(i, p * keep - step_size * m[i] / (std::sqrt(v[i]) * root + eps));
  }
}

template <class C>
__global__ void sgd_kernel(Data param, Data grad, C* buffer, int64_t n, C lr, C decay, C momentum, C keep, C take,
                           bool nesterov) {
  WEFT_GRID_LOOP(i, n) {
    const C p = param.load<C>(i);
    C g = grad.load<C>(i) + decay * p;
    if (buffer) {
      const C b = (keep == C(0) ? C(0) : keep * buffer[i]) + take * g;
      buffer[i] = b;
      g = nesterov ? g + momentum * b : b;
    }
    param.store(i, p - lr * g);
  }
}

// One block: its threads stride over x, then add up in a fixed order; total is what came before.
__global__ void sum_squares_kernel(Data x, int64_t n, double* total) {
  __shared__ double part[kThreads];
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    const double v = x.load<double>(i);
    sum += v * v;
  }
  part[threadIdx.x] = sum;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0) *total += part[0];
}

template <class C>
__global__ void clip_kernel(Data x, int64_t n, Data norm, double max_norm) {
  const double factor = max_norm / (norm.load<double>(0) + 1e-6);
  if (factor >= 1) return;
  WEFT_GRID_LOOP(i, n) { x.store(i, x.load<C>(i) * C(factor)); }
}

template <class C>
__global__ void clip_value_kernel(Data x, int64_t n, C limit) {
  WEFT_GRID_LOOP(i, n) {
    const C v = x.load<C>(i);
    x.store(i, v > limit ? limit : v < -limit ? -limit : v);
  }
}

template <class C>
__global__ void ema_kernel(Data average, Data x, int64_t n, C decay, C rest) {
  WEFT_GRID_LOOP(i, n) { average.store(i, decay * average.load<C>(i) + rest * x.load<C>(i)); }
}

}  // namespace

void adam(const Tensors& params, const Tensors& grads, const Tensors& m, const Tensors& v, const AdamArgs& a) {
  DeviceScope scope(params[0]);
  const double correction1 = 1 - std::pow(a.beta1, static_cast<double>(a.step)),
               correction2 = 1 - std::pow(a.beta2, static_cast<double>(a.step));
  for (size_t i = 0; i < params.size(); ++i) {
    dispatch_float(params[i].dtype(), [&]<class C>(Type<C>) {
      launch("adam", params[i].numel(), adam_kernel<C>, data_of(params[i]), data_of(grads[i]), m[i].data<C>(),
             v[i].data<C>(), params[i].numel(), C(a.beta1), C(a.beta2), C(1 - a.beta1), C(1 - a.beta2), C(a.eps),
             C(a.lr / correction1), C(1 / std::sqrt(correction2)), C(a.decoupled ? 1 - a.lr * a.weight_decay : 1),
             C(a.decoupled ? 0 : a.weight_decay));
    });
  }
}

void sgd(const Tensors& params, const Tensors& grads, const Tensors& buffers, const SgdArgs& a) {
  DeviceScope scope(params[0]);
  for (size_t i = 0; i < params.size(); ++i) {
    dispatch_float(params[i].dtype(), [&]<class C>(Type<C>) {
      launch("sgd", params[i].numel(), sgd_kernel<C>, data_of(params[i]), data_of(grads[i]),
             a.momentum != 0 ? buffers[i].data<C>() : nullptr, params[i].numel(), C(a.lr), C(a.weight_decay),
             C(a.momentum), C(a.first ? 0 : a.momentum), C(a.first ? 1 : 1 - a.dampening), a.nesterov);
    });
  }
}

void sum_squares(const Tensors& xs, Tensor& y) {
  DeviceScope scope(y);
  Tensor total = empty({}, float64, y.device());
  check_cuda(cudaMemsetAsync(total.raw_data(), 0, sizeof(double), stream()), "sum_squares");
  for (const Tensor& x : xs)
    launch("sum_squares", x.numel() ? 1 : 0, sum_squares_kernel, data_of(x), x.numel(), total.data<double>());
  y.copy_(total);
}

void clip(const Tensors& xs, const Tensor& norm, double max_norm) {
  DeviceScope scope(norm);
  for (const Tensor& x : xs) {
    dispatch_float(x.dtype(), [&]<class C>(Type<C>) {
      launch("clip", x.numel(), clip_kernel<C>, data_of(x), x.numel(), data_of(norm), max_norm);
    });
  }
}

void clip_value(const Tensors& xs, double limit) {
  DeviceScope scope(xs[0]);
  for (const Tensor& x : xs) {
    dispatch_float(x.dtype(), [&]<class C>(Type<C>) {
      launch("clip_value", x.numel(), clip_value_kernel<C>, data_of(x), x.numel(), C(limit));
    });
  }
}

void ema(const Tensors& averages, const Tensors& xs, double decay) {
  DeviceScope scope(xs[0]);
  for (size_t i = 0; i < xs.size(); ++i) {
    dispatch_float(averages[i].dtype(), [&]<class C>(Type<C>) {
      launch("ema", xs[i].numel(), ema_kernel<C>, data_of(averages[i]), data_of(xs[i]), xs[i].numel(), C(decay),
             C(1 - decay));
    });
  }
}

}  // namespace weft::cuda

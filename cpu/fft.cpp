#include <weft/cpu/fft.h>
#include <weft/cpu/fft_kernels.h>
#include <weft/tensor/parallel.h>

#include <algorithm>
#include <bit>
#include <list>
#include <mutex>
#include <utility>

namespace weft::cpu {
namespace {

using fft::Kernels, fft::RealPlan, fft::RowPlan;

template <class T>
const Kernels<T>& kernels() {
  static const Kernels<T>* best = [] {
    const Kernels<T>* sets[3];
    fft::kernel_sets(sets);
    return sets[0];
  }();
  return *best;
}

// The plans used last, most recent first. A plan being built holds up only its own length.
template <class Plan>
class Cache {
 public:
  template <class Build>
  std::shared_ptr<const Plan> get(int64_t n, Build build) {
    {
      std::lock_guard lock(mutex_);
      if (auto found = find(n)) return found;
    }
    auto plan = std::make_shared<const Plan>(build());
    std::lock_guard lock(mutex_);
    if (auto found = find(n)) return found;  // another thread was faster
    entries_.emplace_front(n, plan);
    if (entries_.size() > most) entries_.pop_back();
    return plan;
  }

 private:
  static constexpr size_t most = 32;

  std::shared_ptr<const Plan> find(int64_t n) {
    for (auto it = entries_.begin(); it != entries_.end(); ++it) {
      if (it->first != n) continue;
      entries_.splice(entries_.begin(), entries_, it);
      return it->second;
    }
    return nullptr;
  }

  std::mutex mutex_;
  std::list<std::pair<int64_t, std::shared_ptr<const Plan>>> entries_;
};

template <class T>
std::shared_ptr<const RealPlan<T>> real_plan(int64_t n) {
  static Cache<RealPlan<T>> cache;
  return cache.get(n, [n] {
    auto plan = fft::make_real_plan<T>(n, kernels<T>().width);
    if (plan.kind == RealPlan<T>::chirp) kernels<T>().fill_filter(plan.bluestein);
    return plan;
  });
}

// For convolutions: modulo z^n + i, so that rows need no zero padding.
template <class T>
std::shared_ptr<const RowPlan<T>> convolution_plan(int64_t n) {
  static Cache<RowPlan<T>> cache;
  const int64_t width = kernels<T>().width, length = fft::cheap_length(n, width);
  return cache.get(length, [=] { return fft::make_row_plan<T>(length, width, true, false); });
}

// Rows a chunk of work takes, from the length of a row alone: enough to be worth handing to a thread.
int64_t rows_per_chunk(int64_t n, int64_t group) {
  constexpr int64_t numbers = 1 << 15;
  const int64_t groups = std::max<int64_t>(1, numbers / (n * group));
  return groups * group;
}

template <class T, class Step>
void for_rows(const RealPlan<T>& plan, int64_t rows, Step step) {
  const int64_t group = fft::group(plan, kernels<T>().width);
  const int64_t chunk = rows_per_chunk(plan.n, group);
  parallel_for((rows + chunk - 1) / chunk, 1,
               [&](int64_t begin, int64_t end) { step(begin * chunk, std::min(rows, end * chunk)); });
}

template <class T, class Step>
void for_channels(const LongConvolution<T>& c, Step step) {
  parallel_for(c.channels, rows_per_chunk(c.n * c.batch, 1), [&](int64_t begin, int64_t end) { step(begin, end); });
}

template <class T>
fft::ConvolveJob<T> job_of(const LongConvolution<T>& c) {
  fft::ConvolveJob<T> job{};
  job.u = c.u;
  job.k = c.k;
  job.k_rev = c.k_rev;
  job.d = c.d;
  job.batch = c.batch;
  job.channels = c.channels;
  job.n = c.n;
  job.taps = c.k ? c.taps : 0;
  job.taps_rev = c.k_rev ? c.taps_rev : 0;
  return job;
}

}  // namespace

template <class T>
void rfft_rows(const T* x, int64_t rows, int64_t length, int64_t stride, int64_t n, double scale, T* out) {
  if (rows == 0) return;
  const auto plan = real_plan<T>(n);
  const fft::RealJob<T> job{x, length, stride, out, static_cast<T>(scale)};
  for_rows(*plan, rows, [&](int64_t begin, int64_t end) { kernels<T>().rfft(*plan, job, begin, end); });
}

template <class T>
void irfft_rows(const T* spec, int64_t rows, int64_t length, int64_t stride, int64_t n, double scale, T* out) {
  if (rows == 0) return;
  const auto plan = real_plan<T>(n);
  const fft::RealJob<T> job{spec, length, stride, out, static_cast<T>(scale)};
  for_rows(*plan, rows, [&](int64_t begin, int64_t end) { kernels<T>().irfft(*plan, job, begin, end); });
}

template <class T>
void convolve_rows(const LongConvolution<T>& c, T* y) {
  if (c.batch * c.channels * c.n == 0) return;
  const auto plan = convolution_plan<T>(c.n);
  auto job = job_of(c);
  job.y = y;
  for_channels(c, [&](int64_t begin, int64_t end) { kernels<T>().convolve(*plan, job, begin, end); });
}

template <class T>
void convolve_rows_backward(const LongConvolution<T>& c, const T* dy, T* du, T* dk, T* dk_rev, T* dd) {
  if (c.batch * c.n == 0) {  // no rows: the taps' gradients are empty sums
    if (dk) std::fill_n(dk, c.channels * c.taps, T(0));
    if (dk_rev) std::fill_n(dk_rev, c.channels * c.taps_rev, T(0));
    if (dd) std::fill_n(dd, c.channels, T(0));
    return;
  }
  if (c.channels == 0) return;
  const auto plan = convolution_plan<T>(c.n);
  auto job = job_of(c);
  job.dy = dy;
  job.du = du;
  job.dk = dk;
  job.dk_rev = dk_rev;
  job.dd = dd;
  for_channels(c, [&](int64_t begin, int64_t end) { kernels<T>().convolve_backward(*plan, job, begin, end); });
}

template void rfft_rows(const float*, int64_t, int64_t, int64_t, int64_t, double, float*);
template void rfft_rows(const double*, int64_t, int64_t, int64_t, int64_t, double, double*);
template void irfft_rows(const float*, int64_t, int64_t, int64_t, int64_t, double, float*);
template void irfft_rows(const double*, int64_t, int64_t, int64_t, int64_t, double, double*);
template void convolve_rows(const LongConvolution<float>&, float*);
template void convolve_rows(const LongConvolution<double>&, double*);
template void convolve_rows_backward(const LongConvolution<float>&, const float*, float*, float*, float*, float*);
template void convolve_rows_backward(const LongConvolution<double>&, const double*, double*, double*, double*, double*);

}  // namespace weft::cpu

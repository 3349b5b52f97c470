// What every kernel file uses: error checks, launches, and walking strided operands. A kernel is compiled for the types
// that it computes in (float, double, int64_t); operands of other dtypes are converted as they are read and written.
#pragma once

#include <weft/ops/random.h>
#include <weft/tensor/tensor.h>

#include <functional>
#include <type_traits>

#include <cuda_runtime.h>

namespace weft::cuda {

/// Throws "op: CUDA error: ..." unless ok.
void check_cuda(cudaError_t status, const char* op);

/// Makes x's device the current one for a scope.
class DeviceScope {
 public:
  explicit DeviceScope(const Tensor& x) : DeviceScope(x.device()) {}
  explicit DeviceScope(Device device) {
    check_cuda(cudaGetDevice(&before_), "device");
    changed_ = before_ != device.index;
    if (changed_) check_cuda(cudaSetDevice(device.index), "device");
  }
  ~DeviceScope() {
    if (changed_) cudaSetDevice(before_);
  }

 private:
  int before_ = 0;
  bool changed_ = false;
};

/// The calling thread's stream on the current device: everything it asks for goes there, in order.
cudaStream_t stream();

/// For a kernel to report an index that is out of range, without anyone waiting: the first report stays and is thrown
/// by the next call on the host that waits for the device (check_faults). A kernel goes on with another value.
struct FaultReport {
  int raised;
  const char* op;  // host pointers, carried along for the message
  const char* text;
  int64_t index, dim, size;
};
struct Fault {
  int* lock;            // device memory: 0 until the first report
  FaultReport* report;  // host memory that the device writes to
  const char *op, *text;
  int64_t dim, size;
  __device__ void raise(int64_t index) const {
    if (atomicExch(lock, 1) != 0) return;
    report->op = op, report->text = text, report->index = index, report->dim = dim, report->size = size;
    __threadfence_system();
    *static_cast<volatile int*>(&report->raised) = 1;
  }
};
/// text: what follows "op: ", with {index}, {dim} and {size} to be filled in; both must be string literals. For the
/// current device.
Fault fault(const char* op, int64_t dim, int64_t size,
            const char* text = "index {index} is out of range for dim {dim} of size {size}");
/// Throws what a kernel has reported on the current device. The caller has waited for the kernels it asks about.
void check_faults();
/// Waits for all that this thread's stream has been asked, then check_faults. An error while a graph is being captured:
/// "op: waits for the device, which a step that is being captured cannot".
void wait(const char* op);

/// An argument of a kernel whose value changes from one replay of a captured graph (cuda/graph.h) to the next: a step's
/// number, a learning rate, a position in a random stream. Passed by value; get() is for the device.
template <class T>
struct Replayed {
  T value{};
  const T* slot = nullptr;  // in device memory that belongs to the graph and is written before each replay
  __device__ T get() const { return slot ? *slot : value; }
};

/// Asked by replayed(): a slot of the graph that this thread is capturing, or nullptr where it captures none. now: what
/// the first replay sees; next writes what the following one sees.
const void* replay_slot(const void* now, size_t bytes, std::function<void(void*)> next);

/// now for a launch that runs at once and for the first replay of a captured one; each later replay calls next, in the
/// order of the captured program.
template <class T>
Replayed<T> replayed(T now, std::function<T()> next) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 32 && alignof(T) <= 16, "a slot holds 32 bytes");
  auto write = [next = std::move(next)](void* to) { *static_cast<T*>(to) = next(); };
  return {now, static_cast<const T*>(replay_slot(&now, sizeof(T), std::move(write)))};
}

/// Where a kernel draws from: philox_at(at) on the host, Generator::State at = random.get() on the device. A replayed
/// launch draws what the program that was captured would have drawn at that step, had it run.
struct PhiloxAt {
  Replayed<Generator::State> start;
  uint64_t skip = 0;  // from where the captured program found its generator to where this launch draws
  __device__ Generator::State get() const {
    Generator::State at = start.get();
    at.offset += skip;
    return at;
  }
};
PhiloxAt philox_at(Generator::State at);

inline constexpr int kThreads = 256;

/// Blocks for n items in grid-stride loops.
inline int blocks_for(int64_t n) {
  return static_cast<int>(std::clamp<int64_t>((n + kThreads - 1) / kThreads, 1, 132 * 32));
}

/// Runs kernel<<<blocks, kThreads>>>(args...) and reports a failed launch under op's name. Nothing for n = 0.
template <class... Params, class... Args>
void launch(const char* op, int64_t n, void (*kernel)(Params...), Args&&... args) {
  if (n == 0) return;
  kernel<<<blocks_for(n), kThreads, 0, stream()>>>(std::forward<Args>(args)...);
  check_cuda(cudaGetLastError(), op);
}

/// Grid-stride loop over [0, n).
#define WEFT_GRID_LOOP(i, n) \
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < (n); i += int64_t{gridDim.x} * blockDim.x)

/// The type arithmetic on d happens in.
template <class F>
decltype(auto) dispatch_compute(DType d, F&& f) {
  if (d == float64) return f(Type<double>{});
  if (is_floating(d)) return f(Type<float>{});
  return f(Type<int64_t>{});
}
template <class F>
decltype(auto) dispatch_float(DType d, F&& f) {
  if (d == float64) return f(Type<double>{});
  return f(Type<float>{});
}

/// Elements of any dtype, read and written as C.
struct Data {
  void* data = nullptr;
  DType dtype = float32;

  template <class C>
  __device__ C load(int64_t i) const {
    switch (dtype) {
      case DType::float64:
        return static_cast<C>(static_cast<const double*>(data)[i]);
      case DType::float32:
        return static_cast<C>(static_cast<const float*>(data)[i]);
      case DType::bfloat16:
        return static_cast<C>(static_cast<float>(static_cast<const BFloat16*>(data)[i]));
      case DType::float16:
        return static_cast<C>(static_cast<float>(static_cast<const Float16*>(data)[i]));
      case DType::int64:
        return static_cast<C>(static_cast<const int64_t*>(data)[i]);
      case DType::int32:
        return static_cast<C>(static_cast<const int32_t*>(data)[i]);
      case DType::uint8:
        return static_cast<C>(static_cast<const uint8_t*>(data)[i]);
      case DType::boolean:
        return static_cast<C>(static_cast<const bool*>(data)[i]);
    }
    return C();
  }
  template <class C>
  __device__ void store(int64_t i, C v) const {
    switch (dtype) {
      case DType::float64:
        static_cast<double*>(data)[i] = static_cast<double>(v);
        break;
      case DType::float32:
        static_cast<float*>(data)[i] = static_cast<float>(v);
        break;
      case DType::bfloat16:
        static_cast<BFloat16*>(data)[i] = BFloat16(static_cast<float>(v));
        break;
      case DType::float16:
        static_cast<Float16*>(data)[i] = Float16(static_cast<float>(v));
        break;
      case DType::int64:
        static_cast<int64_t*>(data)[i] = static_cast<int64_t>(v);
        break;
      case DType::int32:
        static_cast<int32_t*>(data)[i] = static_cast<int32_t>(v);
        break;
      case DType::uint8:
        static_cast<uint8_t*>(data)[i] = static_cast<uint8_t>(v);
        break;
      case DType::boolean:
        static_cast<bool*>(data)[i] = v != C(0);
        break;
    }
  }
};

inline Data data_of(const Tensor& x) { return x.defined() ? Data{x.raw_data(), x.dtype()} : Data{}; }

/// An operand that broadcasts to a shape: its strides there are 0 where it repeats.
struct Operand {
  Data data;
  int64_t strides[kMaxDims];
};

/// The iteration space of N operands; coalesced, innermost dimension last.
template <int N>
struct Space {
  int ndim = 0;
  int64_t numel = 0;
  int64_t sizes[kMaxDims];
  Operand operand[N];

  Space() = default;
  Space(const Shape& shape, const Tensor* const (&tensors)[N]) {
    numel = shape.numel();
    for (int k = 0; k < N; ++k) operand[k].data = data_of(*tensors[k]);
    for (int64_t d = 0; d < shape.size(); ++d) {
      if (shape[d] == 1) continue;
      int64_t st[N];
      bool merge = ndim > 0;
      for (int k = 0; k < N; ++k) {
        const Tensor& t = *tensors[k];
        const int64_t at = d - (shape.size() - t.dim());
        st[k] = at < 0 || t.shape()[at] == 1 ? 0 : t.strides()[at];
        merge = merge && operand[k].strides[ndim - 1] == st[k] * shape[d];
      }
      if (!merge) sizes[ndim++] = 1;
      sizes[ndim - 1] *= shape[d];
      for (int k = 0; k < N; ++k) operand[k].strides[ndim - 1] = st[k];
    }
  }

  /// Where element i of the space lies in operand k, for each k.
  __device__ void locate(int64_t i, int64_t (&offset)[N]) const {
    for (int k = 0; k < N; ++k) offset[k] = 0;
    for (int d = ndim - 1; d >= 0; --d) {
      const int64_t q = i / sizes[d], r = i - q * sizes[d];
      for (int k = 0; k < N; ++k) offset[k] += r * operand[k].strides[d];
      i = q;
    }
  }
};

}  // namespace weft::cuda

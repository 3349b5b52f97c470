// Devices, streams, events and faults.
#include <weft/ops/matmul.h>
#include <weft/cuda/state.cuh>

#include <array>
#include <cstring>

namespace weft::cuda {

namespace {
// Errors of a kernel, met by whatever call comes next; the process cannot use the device any more.
bool is_late(cudaError_t status) {
  return status == cudaErrorIllegalAddress || status == cudaErrorLaunchFailure ||
         status == cudaErrorMisalignedAddress || status == cudaErrorIllegalInstruction || status == cudaErrorAssert ||
         status == cudaErrorHardwareStackError;
}
}  // namespace

void check_cuda(cudaError_t status, const char* op) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // an error that can be recovered from is not to be met again
  throw DeviceError(concat(
      op, ": CUDA error: ", cudaGetErrorString(status),
      is_late(status) ? " (met here; a kernel before may have made it: CUDA_LAUNCH_BLOCKING=1 shows which)" : ""));
}

int device_count() {
  static const int count = [] {
    int n = 0;
    if (cudaGetDeviceCount(&n) == cudaSuccess) return n;
    cudaGetLastError();
    return 0;
  }();
  return count;
}

void require(Device device) {
  check(device.is_cuda() && device.index >= 0 && device.index < std::min(device_count(), kMaxDevices),
        "cuda: there is no device ", device, " (", device_count(), " found)");
}

// --- a device's state ------------------------------------------------------------------------------------------------

namespace {

// Never destroyed: tensors with static lifetime may still free at exit.
DeviceState& raw_state(int device) {
  static DeviceState* all = new DeviceState[kMaxDevices];
  return all[device];
}

int current_device() {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "device");
  return device;
}

}  // namespace

DeviceState& state_of(Device device) {
  DeviceState& s = raw_state(device.index);
  if (s.ready.load(std::memory_order_acquire)) return s;
  std::unique_lock lock(s.mutex);
  if (s.ready) return s;
  DeviceScope scope(device);
  cudaMemPool_t pool;
  uint64_t keep = UINT64_MAX;  // freed memory stays in the pool
  check_cuda(cudaDeviceGetDefaultMemPool(&pool, device.index), "cuda memory");
  check_cuda(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep), "cuda memory");
  check_cuda(cudaStreamCreateWithFlags(&s.stream, cudaStreamNonBlocking), "stream");
  check_cuda(cudaMalloc(&s.fault_lock, sizeof(int)), "cuda memory");
  check_cuda(cudaMemset(s.fault_lock, 0, sizeof(int)), "cuda memory");
  check_cuda(cudaHostAlloc(&s.fault_report, sizeof(FaultReport), cudaHostAllocPortable), "cuda memory");
  *s.fault_report = {};
  s.ready.store(true, std::memory_order_release);
  return s;
}

DeviceState& current_state() { return state_of(Device::cuda(current_device())); }

// --- streams and events ----------------------------------------------------------------------------------------------

cudaStream_t& override_stream(int device) {
  thread_local std::array<cudaStream_t, kMaxDevices> current = {};
  return current[static_cast<size_t>(device)];
}

cudaStream_t stream() {
  const int device = current_device();
  const cudaStream_t mine = override_stream(device);
  return mine ? mine : state_of(Device::cuda(device)).stream;
}

namespace {

cudaStream_t stream_on(Device device) {
  DeviceScope scope(device);
  return stream();
}
cudaEvent_t event_of(void* handle) { return static_cast<cudaEvent_t>(handle); }
cudaStream_t stream_of(void* handle) { return static_cast<cudaStream_t>(handle); }

}  // namespace

cudaStream_t borrow_stream(Device device) {
  DeviceScope scope(device);
  DeviceState& s = state_of(device);
  std::unique_lock lock(s.mutex);
  cudaStream_t stream;
  if (s.idle_streams.empty()) {
    check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    return stream;
  }
  stream = s.idle_streams.back();
  s.idle_streams.pop_back();
  return stream;
}

void return_stream(Device device, cudaStream_t stream) noexcept {
  DeviceState& s = raw_state(device.index);
  std::unique_lock lock(s.mutex);
  s.idle_streams.push_back(stream);
}

void order(cudaStream_t earlier, cudaStream_t later) {
  if (earlier == later) return;
  cudaEvent_t mark;
  check_cuda(cudaEventCreateWithFlags(&mark, cudaEventDisableTiming), "stream");
  const cudaError_t recorded = cudaEventRecord(mark, earlier);
  const cudaError_t waited = recorded == cudaSuccess ? cudaStreamWaitEvent(later, mark) : recorded;
  cudaEventDestroy(mark);  // its memory goes when the streams are past it
  check_cuda(waited, "stream");
}

Stream::Stream(Device device) : device_(device) {
  require(device);
  handle_ = borrow_stream(device);
}

Stream::~Stream() { return_stream(device_, stream_of(handle_)); }

void Stream::wait(const Event& event) {
  check_cuda(cudaStreamWaitEvent(stream_of(handle_), event_of(event.handle_)), "stream");
}

void Stream::synchronize() {
  DeviceScope scope(device_);
  StreamScope inside(*this);
  cuda::wait("stream");
}

StreamScope::StreamScope(const Stream& stream) : device_(stream.device_) {
  order(stream_on(device_), stream_of(stream.handle_));
  cudaStream_t& current = override_stream(device_.index);
  before_ = current;
  current = stream_of(stream.handle_);
  Autocast::forget(false);  // another stream would not wait for what is converted here
}

StreamScope::~StreamScope() {
  override_stream(device_.index) = stream_of(before_);
  Autocast::forget(false);
}

Event::Event(Device device) : device_(device) {
  require(device);
  DeviceScope scope(device);
  cudaEvent_t handle;
  check_cuda(cudaEventCreate(&handle), "event");
  handle_ = handle;
}

Event::~Event() { cudaEventDestroy(event_of(handle_)); }

void Event::record() { check_cuda(cudaEventRecord(event_of(handle_), stream_on(device_)), "event"); }

void Event::record(const Stream& stream) {
  check_cuda(cudaEventRecord(event_of(handle_), stream_of(stream.handle_)), "event");
}

void Event::stream_wait() const { check_cuda(cudaStreamWaitEvent(stream_on(device_), event_of(handle_)), "event"); }

void Event::wait() const {
  refuse_capture("event");
  check_cuda(cudaEventSynchronize(event_of(handle_)), "event");
  DeviceScope scope(device_);
  check_faults();
}

bool Event::reached() const {
  const cudaError_t status = cudaEventQuery(event_of(handle_));
  if (status == cudaErrorNotReady) {
    cudaGetLastError();
    return false;
  }
  check_cuda(status, "event");
  return true;
}

double Event::milliseconds_since(const Event& start) const {
  start.wait();
  wait();
  float ms = 0;
  check_cuda(cudaEventElapsedTime(&ms, event_of(start.handle_), event_of(handle_)), "event");
  return ms;
}

// --- waiting and faults ----------------------------------------------------------------------------------------------

Fault fault(const char* op, int64_t dim, int64_t size, const char* text) {
  DeviceState& s = current_state();
  return {s.fault_lock, s.fault_report, op, text, dim, size};
}

void check_faults() {
  DeviceState& s = current_state();
  if (!*static_cast<volatile int*>(&s.fault_report->raised)) return;
  const FaultReport r = *s.fault_report;
  *s.fault_report = {};
  check_cuda(cudaMemsetAsync(s.fault_lock, 0, sizeof(int), s.stream), "faults");
  std::string text = r.text;
  for (const auto& [name, value] : {std::pair{"{index}", r.index}, {"{dim}", r.dim}, {"{size}", r.size}}) {
    if (const size_t at = text.find(name); at != std::string::npos)
      text.replace(at, std::strlen(name), std::to_string(value));
  }
  fail(r.op, ": ", text);
}

void refuse_capture(const char* op) {
  if (capturing()) [[unlikely]]
    fail(op, ": waits for the device, which a step that is being captured cannot (cuda/graph.h)");
}

void wait(const char* op) {
  refuse_capture(op);
  check_cuda(cudaStreamSynchronize(stream()), op);
  check_faults();
}

void synchronize(Device device) {
  require(device);
  refuse_capture("synchronize");
  DeviceScope scope(device);
  check_cuda(cudaDeviceSynchronize(), "synchronize");
  check_faults();
}

}  // namespace weft::cuda

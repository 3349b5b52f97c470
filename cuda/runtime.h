// The CUDA runtime as the rest of the library and its users see it: devices, memory, streams and events, no CUDA type
// in sight. Only in builds with CUDA.
//
// Order. A thread's work on a device goes to its current stream there and is done in the order it was asked for. Unless
// a StreamScope says otherwise that is one stream a device, the same for all threads. Nothing on the host waits but
// what hands a value to the host: item, to(cpu), nonzero, synchronize, Event::wait.
#pragma once

#include <weft/tensor/storage.h>

namespace weft::cuda {

/// How many GPUs this process can use; 0 where there is no driver.
int device_count();
/// Waits until the device has done all that was asked of it; throws the error that something left behind.
void synchronize(Device device = Device::cuda());

class Event;

/// A further queue of work on a device: what two streams hold may run at the same time. Streams are recycled, so making
/// one is cheap.
class Stream {
 public:
  explicit Stream(Device device = Device::cuda());
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  Device device() const { return device_; }
  /// What is asked of this stream from now on starts after what event has recorded.
  void wait(const Event& event);
  void synchronize();  ///< the host waits for all that was asked of this stream

 private:
  friend class StreamScope;
  friend class Event;
  Device device_;
  void* handle_;
};

/// Makes a stream the calling thread's current one on its device for a scope. Work asked for inside starts after what
/// the thread's stream outside had been asked before; nothing waits at the end: record an Event inside and let the
/// outer stream wait for it before it uses results, and keep tensors that the scope uses alive until then. Memory goes
/// back in the order of the stream where it was taken, after what the freeing thread's current stream was asked.
class StreamScope {
 public:
  explicit StreamScope(const Stream& stream);
  ~StreamScope();
  StreamScope(const StreamScope&) = delete;
  StreamScope& operator=(const StreamScope&) = delete;

 private:
  Device device_;
  void* before_;
};

/// A mark in a stream: reached when all that was asked before it is done.
class Event {
 public:
  explicit Event(Device device = Device::cuda());
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record();  ///< into the calling thread's current stream of the event's device
  void record(const Stream& stream);
  void stream_wait() const;  ///< the calling thread's current stream of the event's device goes on after it
  void wait() const;         ///< the host waits; throws what kernels before it reported
  bool reached() const;      ///< never waits; true for one that was never recorded
  double milliseconds_since(const Event& start) const;  ///< device time from start to here; waits for both

 private:
  friend class Stream;
  Device device_;
  void* handle_;
};

/// Device time: Timer t; work(); double ms = t.milliseconds();
class Timer {
 public:
  explicit Timer(Device device = Device::cuda()) : start_(device), end_(device) { start_.record(); }
  void restart() { start_.record(); }
  double milliseconds() {
    end_.record();
    return end_.milliseconds_since(start_);
  }

 private:
  Event start_, end_;
};

// --- what Storage is made of -----------------------------------------------------------------------------------------

/// Device memory. keep is set for memory of a graph that is being captured, which goes back when keep does; other
/// memory goes back through free, with the stream that it was taken on.
struct Block {
  void* data = nullptr;
  void* stream = nullptr;
  std::shared_ptr<void> keep = {};
};
/// Throws OutOfMemory, or Error where there is no such device.
Block allocate(Device device, size_t bytes);
void free(Device device, void* data, size_t bytes, void* stream) noexcept;
/// Page-locked host memory, kept for reuse when given back, once the copies that use it are done.
Block allocate_pinned(size_t bytes);
/// Bytes from one device's memory, or the host's, to another's. From and to pageable host memory, and to any host
/// memory unless non_blocking, it returns when the bytes are there or no longer needed; between devices each one's
/// stream waits for the other's. pinned: the host memory's owner, if it is page-locked.
struct Place {
  void* data;
  Device device;
  std::shared_ptr<void> pinned;
};
void transfer(const Place& from, const Place& to, size_t bytes, bool non_blocking);

MemoryStats memory_stats(Device device);
void reset_peak_memory(Device device);
void empty_cache(Device device);

}  // namespace weft::cuda

// The memory of a captured graph.
#include <weft/cuda/state.cuh>

namespace weft::cuda {

namespace {

constexpr size_t kPiece = 512, kMiB = size_t{1} << 20;

size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

// What to ask the pool for when a piece of this size is wanted: small pieces share blocks.
size_t block_for(size_t bytes) {
  if (bytes < kMiB) return 4 * kMiB;
  return bytes < 10 * kMiB ? 20 * kMiB : round_up(bytes, 2 * kMiB);
}

// Holds one piece; gives it back when the Storage goes.
struct Lease {
  std::shared_ptr<Arena> arena;
  void *data, *stream;
  ~Lease() { arena->give(data, stream); }
};

}  // namespace

void* Arena::own(size_t bytes) {
  void* data = take_from_pool(device_, bytes, state_of(device_).stream);
  blocks_.push_back({data, bytes});
  bytes_ += bytes;
  return data;
}

Block Arena::take(size_t bytes, void* stream) {
  bytes = round_up(std::max<size_t>(bytes, 1), kPiece);
  std::unique_lock lock(mutex_);
  auto at = best(bytes, stream);
  if (at == pieces_.end()) {
    const size_t size = block_for(bytes);
    at = pieces_.insert({static_cast<char*>(own(size)), {size, stream, false, true}}).first;
  }
  Piece& piece = at->second;
  if (piece.size > bytes) {
    pieces_.insert({at->first + bytes, {piece.size - bytes, stream, false, false}});
    piece.size = bytes;
  }
  piece.used = true;
  return {at->first, stream, std::make_shared<Lease>(shared_from_this(), at->first, stream)};
}

Arena::Pieces::iterator Arena::best(size_t bytes, void* stream) {
  auto found = pieces_.end();
  for (auto at = pieces_.begin(); at != pieces_.end(); ++at) {
    const Piece& p = at->second;
    if (p.used || p.stream != stream || p.size < bytes) continue;
    if (found == pieces_.end() || p.size < found->second.size) found = at;
  }
  return found;
}

void Arena::give(void* data, void* stream) {
  Capture* c = capturing();
  std::unique_lock lock(mutex_);
  // Only this thread's captured work is known to be in order with what comes next.
  if (!open_ || !c || c->arena.get() != this || override_stream(device_.index) != stream) return;
  auto at = pieces_.find(static_cast<char*>(data));
  at->second.used = false;
  merge(at);
}

// Joins a free piece with the free ones before and after it in the same block.
void Arena::merge(Pieces::iterator at) {
  auto joins = [](Pieces::iterator a, Pieces::iterator b) {
    return !a->second.used && !b->second.used && !b->second.first && a->second.stream == b->second.stream;
  };
  if (auto next = std::next(at); next != pieces_.end() && joins(at, next)) {
    at->second.size += next->second.size;
    pieces_.erase(next);
  }
  if (at != pieces_.begin()) {
    if (auto previous = std::prev(at); joins(previous, at)) {
      previous->second.size += at->second.size;
      pieces_.erase(at);
    }
  }
}

void Arena::adopt(void* data, size_t bytes, void* stream) {
  std::unique_lock lock(mutex_);
  blocks_.push_back({data, bytes});
  bytes_ += bytes;
  if (bytes >= kPiece) pieces_.insert({static_cast<char*>(data), {bytes / kPiece * kPiece, stream, false, true}});
}

// The last tensor and the graph are gone; replays may still run.
Arena::~Arena() {
  int before = 0;
  cudaGetDevice(&before);
  cudaSetDevice(device_.index);
  const cudaStream_t main = state_of(device_).stream;
  if (replayed) {
    cudaStreamWaitEvent(main, replayed);
    cudaEventDestroy(replayed);
  }
  for (const Taken& b : blocks_) give_to_pool(device_, b.data, b.bytes, main);
  cudaSetDevice(before);
}

}  // namespace weft::cuda

#include <weft/nn/data/text.h>
#include <weft/tensor/error.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

namespace weft::data {
namespace fs = std::filesystem;
namespace {

// Appends a file to `bytes`, up to `max_bytes` in all. zlib hands plain files through unchanged.
void append_file(const fs::path& path, int64_t max_bytes, Bytes& bytes) {
  errno = 0;
  gzFile file = ::gzopen(path.c_str(), "rb");
  check(file != nullptr, "read_corpus: cannot open ", path.string(), ": ", std::strerror(errno));
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> closer(file, ::gzclose);
  constexpr int64_t kChunk = 1 << 20;
  ::gzbuffer(file, kChunk);
  while (static_cast<int64_t>(bytes.size()) < max_bytes) {
    const size_t before = bytes.size();
    const int64_t wanted = std::min(kChunk, max_bytes - static_cast<int64_t>(before));
    bytes.resize(before + static_cast<size_t>(wanted));
    const int got = ::gzread(file, bytes.data() + before, static_cast<unsigned>(wanted));
    bytes.resize(before + static_cast<size_t>(std::max(got, 0)));
    int status = Z_OK;
    const char* reason = ::gzerror(file, &status);
    // A file cut off in the middle of a gzip stream gives its bytes first and Z_BUF_ERROR with the last of them.
    check(got >= 0 && status != Z_BUF_ERROR, "read_corpus: ", path.string(), " is damaged: ",
          status == Z_BUF_ERROR ? "it ends in the middle of the gzip data"
          : status == Z_ERRNO   ? std::strerror(errno)
                                : reason);
    if (got < wanted) break;
  }
}

bool hidden(const fs::path& path) { return path.filename().string().starts_with("."); }

std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  for (auto it = fs::recursive_directory_iterator(folder); it != fs::recursive_directory_iterator(); ++it) {
    if (it->is_directory() && hidden(it->path())) it.disable_recursion_pending();
    if (it->is_regular_file() && !it->is_symlink() && !hidden(it->path())) files.push_back(it->path());
  }
  std::sort(files.begin(), files.end(),
            [](const fs::path& a, const fs::path& b) { return a.generic_string() < b.generic_string(); });
  return files;
}

// Counter-based draws: a pure function of (seed, epoch, index), so the stream can be entered at any point. The mixing
// steps are the finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// A number in [0, bound), bound > 0, below 2^32; the modulo's bias is under bound / 2^64.
int64_t draw(uint64_t seed, int64_t epoch, int64_t index, int64_t bound) {
  const uint64_t bits = mix(mix(mix(seed) ^ static_cast<uint64_t>(epoch)) ^ static_cast<uint64_t>(index));
  return static_cast<int64_t>(bits % static_cast<uint64_t>(bound));
}

// Windows that a range gives an epoch: one fewer than fit, so that their common phase can be drawn anew each time.
int64_t windows_in(const Range& range, int64_t window) {
  if (range.size() < window) return 0;
  return std::max<int64_t>(1, (range.size() - window) / (window - 1));
}

}  // namespace

Bytes read_corpus(const std::vector<fs::path>& paths, int64_t max_bytes) {
  Bytes bytes;
  for (const fs::path& path : paths) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    check(fs::exists(status), "read_corpus: no such file or folder: ", path.string());
    if (!fs::is_directory(status)) {
      append_file(path, max_bytes, bytes);
      continue;
    }
    try {
      for (const fs::path& file : files_below(path)) append_file(file, max_bytes, bytes);
    } catch (const fs::filesystem_error& e) {
      check(false, "read_corpus: cannot read folder ", path.string(), ": ", e.code().message());
    }
  }
  const std::string name = paths.empty() ? "no paths" : paths[0].string() + (paths.size() > 1 ? ", …" : "");
  check(!bytes.empty(), "read_corpus: no text in ", name);
  bytes.shrink_to_fit();
  return bytes;
}

Split split_corpus(int64_t size, const SplitConfig& config) {
  check(config.valid_fraction > 0 && config.valid_fraction < 1,
        "split_corpus: valid_fraction must be between 0 and 1, got ", config.valid_fraction);
  check(config.blocks >= 1, "split_corpus: blocks must be at least 1, got ", config.blocks);
  const auto total = static_cast<int64_t>(static_cast<double>(size) * config.valid_fraction);
  const int64_t shortest = std::max<int64_t>(config.min_block, 1);
  const int64_t blocks = std::clamp<int64_t>(total / shortest, 1, config.blocks);
  const int64_t held_out = std::max(total / blocks, shortest);
  check(size / blocks - held_out >= shortest, "split_corpus: ", size, " bytes are too few: need at least ",
        2 * shortest, " for a training and a held-out part of ", shortest, " bytes each");
  Split split;
  for (int64_t i = 0, begin = 0; i < blocks; ++i) {
    const int64_t end = size / blocks * (i + 1) + std::min(i + 1, size % blocks);
    split.train.push_back({begin, end - held_out});
    split.valid.push_back({end - held_out, end});
    begin = end;
  }
  return split;
}

std::vector<int64_t> tile_windows(const std::vector<Range>& ranges, int64_t window, int64_t limit) {
  check(window >= 2, "tile_windows: a window has at least 2 bytes, got ", window);
  check(limit >= 1, "tile_windows: limit must be at least 1, got ", limit);
  std::vector<int64_t> starts;
  for (const Range& range : ranges)
    for (int64_t start = range.begin; start + window <= range.end; start += window - 1) starts.push_back(start);
  check(!starts.empty(), "tile_windows: no range is as long as a window of ", window, " bytes");
  const auto count = static_cast<int64_t>(starts.size());
  if (count <= limit) return starts;
  std::vector<int64_t> chosen;
  for (int64_t i = 0; i < limit; ++i) chosen.push_back(starts[static_cast<size_t>(i * count / limit)]);
  return chosen;
}

WindowSampler::WindowSampler(const Bytes& corpus, std::vector<Range> ranges, SamplerConfig config)
    : corpus_(&corpus), ranges_(std::move(ranges)), config_(config) {
  check(config_.window >= 2, "WindowSampler: a window has at least 2 bytes, got ", config_.window);
  int64_t longest = 0;
  for (const Range& range : ranges_) {
    check(0 <= range.begin && range.begin <= range.end && range.end <= static_cast<int64_t>(corpus.size()),
          "WindowSampler: range [", range.begin, ", ", range.end, ") is outside the corpus of ", corpus.size(),
          " bytes");
    longest = std::max(longest, range.size());
    windows_ += windows_in(range, config_.window);
  }
  check(windows_ > 0, "WindowSampler: a window of ", config_.window,
        " bytes is longer than the longest training range, ", longest,
        " bytes; use a shorter sequence or a longer text");
  start_epoch();
}

void WindowSampler::start_epoch() {
  if (config_.independent) return;
  order_.clear();
  int64_t draws = 0;
  for (const Range& range : ranges_) {
    const int64_t count = windows_in(range, config_.window), stride = config_.window - 1;
    if (count == 0) continue;
    const int64_t slack = range.size() - 1 - count * stride;  // bytes that the count windows leave over
    const int64_t phase = draw(config_.seed, state_.epoch, draws++, std::min(slack, stride - 1) + 1);
    for (int64_t i = 0; i < count; ++i) order_.push_back(range.begin + phase + i * stride);
  }
  for (int64_t i = windows_ - 1; i > 0; --i)
    std::swap(order_[static_cast<size_t>(i)],
              order_[static_cast<size_t>(draw(config_.seed, state_.epoch, draws++, i + 1))]);
}

int64_t WindowSampler::next_start() {
  if (!config_.independent) return order_[static_cast<size_t>(state_.index)];
  int64_t total = 0;
  for (const Range& range : ranges_) total += std::max<int64_t>(0, range.size() - config_.window + 1);
  int64_t at = draw(config_.seed, state_.epoch, state_.index, total);
  for (const Range& range : ranges_) {
    const int64_t starts = std::max<int64_t>(0, range.size() - config_.window + 1);
    if (at < starts) return range.begin + at;
    at -= starts;
  }
  check(false, "WindowSampler: ranges changed while drawing");
  return 0;
}

Bytes WindowSampler::next(int64_t rows) {
  Bytes batch;
  batch.reserve(static_cast<size_t>(rows * config_.window));
  for (int64_t row = 0; row < rows; ++row) {
    const auto first = corpus_->begin() + next_start();
    batch.insert(batch.end(), first, first + config_.window);
    if (++state_.index == windows_) {
      state_ = {state_.epoch + 1, 0};
      start_epoch();
    }
  }
  return batch;
}

void WindowSampler::restore(State state) {
  check(state.epoch >= 0 && state.index >= 0 && state.index < windows_, "WindowSampler: no position ", state.index,
        " of epoch ", state.epoch, " with ", windows_, " windows an epoch");
  state_ = state;
  start_epoch();
}

}  // namespace weft::data

#include <weft/nn/data/text.h>
#include <weft/ops/philox.h>
#include <weft/tensor/error.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

namespace weft::data {
namespace fs = std::filesystem;
namespace {

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

// A number in [0, bound), bound > 0: a pure function of (seed, epoch, index), so that the stream can be entered
// anywhere. 64 bits make the modulo's bias immaterial.
int64_t draw(uint64_t seed, int64_t epoch, int64_t index, int64_t bound) {
  const Philox4 bits = philox(seed, static_cast<uint64_t>(epoch) << 32 | static_cast<uint64_t>(index));
  return static_cast<int64_t>((uint64_t{bits.word[0]} << 32 | bits.word[1]) % static_cast<uint64_t>(bound));
}

// Windows that a range gives an epoch: one fewer than fit, so that their common phase can be drawn anew each time.
int64_t windows_in(const Range& range, int64_t window) {
  if (range.size() < window) return 0;
  return std::max<int64_t>(1, (range.size() - window) / (window - 1));
}

}  // namespace

void read_plain_file(const fs::path& path, int64_t max_bytes, Bytes& into) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  check(in.is_open(), "read_corpus: cannot open ", path.string(), ": ", std::strerror(errno));
  check(!(in.get() == 0x1F && in.get() == 0x8B), "read_corpus: ", path.string(), " is gzip data; unpack it first");
  in.clear();
  in.seekg(0);
  constexpr int64_t kChunk = 1 << 20;
  while (static_cast<int64_t>(into.size()) < max_bytes) {
    const size_t before = into.size();
    const int64_t wanted = std::min(kChunk, max_bytes - static_cast<int64_t>(before));
    into.resize(before + static_cast<size_t>(wanted));
    in.read(reinterpret_cast<char*>(into.data() + before), wanted);
    into.resize(before + static_cast<size_t>(in.gcount()));
    check(!in.bad(), "read_corpus: cannot read ", path.string(), ": ", std::strerror(errno));
    if (in.gcount() < wanted) break;
  }
}

Bytes read_corpus(const std::vector<fs::path>& paths, int64_t max_bytes, const FileReader& read) {
  Bytes bytes;
  for (const fs::path& path : paths) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    check(fs::exists(status), "read_corpus: no such file or folder: ", path.string());
    if (!fs::is_directory(status)) {
      read(path, max_bytes, bytes);
      continue;
    }
    try {
      for (const fs::path& file : files_below(path)) read(file, max_bytes, bytes);
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

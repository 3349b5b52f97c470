// Text for language models over bytes: reading a corpus, holding a part of it out, and drawing batches.
//
//   const Bytes corpus = read_corpus({"notes.txt"});
//   const Split split = split_corpus(corpus.size());
//   WindowSampler sampler(corpus, split.train, {.window = 1025, .seed = 1});
//   Bytes rows = sampler.next(4);                  // [4, 1025], row-major: inputs and their successors
//
// A token is a byte: ids 0 to 255, no unknown ones, nothing to train.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace weft::data {

using Bytes = std::vector<uint8_t>;

inline constexpr int64_t kByteTokens = 256;

inline Bytes encode_bytes(std::string_view text) { return Bytes(text.begin(), text.end()); }
inline std::string decode_bytes(const Bytes& tokens) { return std::string(tokens.begin(), tokens.end()); }

/// Appends a file's contents to `into`, stopping once that holds `max_bytes`.
using FileReader = std::function<void(const std::filesystem::path& path, int64_t max_bytes, Bytes& into)>;
/// The reader for files as they are. Throws weft::Error for a gzip file: the tools' reader (examples/lm/gzip.h, which
/// needs zlib) takes both.
void read_plain_file(const std::filesystem::path& path, int64_t max_bytes, Bytes& into);

/// Reads each path in turn into one corpus, at most `max_bytes` of it. A path is a file or a folder: all files below it
/// whose name does not start with a dot, in the byte order of their paths, so that the corpus is the same on every
/// machine. Symbolic links inside folders are not followed.
/// Throws weft::Error for a missing path, an unreadable file, or a corpus of no bytes.
Bytes read_corpus(const std::vector<std::filesystem::path>& paths,
                  int64_t max_bytes = std::numeric_limits<int64_t>::max(), const FileReader& read = read_plain_file);

/// Part of a corpus: bytes [begin, end).
struct Range {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

struct Split {
  std::vector<Range> train, valid;  ///< disjoint, in order, together the whole corpus
};

struct SplitConfig {
  double valid_fraction = 0.05;  ///< in (0, 1)
  int64_t blocks = 32;           ///< held-out blocks; 1 holds out the tail of the corpus
  int64_t min_block = 2;         ///< bytes; there are fewer blocks rather than shorter ones
};

/// Cuts a corpus of `size` bytes into `blocks` equal stripes and holds out the end of each.
///
/// A corpus put together from files in path order is not alike throughout: its tail is one kind of text (Eigen's ends
/// with its unsupported modules), so a held-out tail measures another distribution than the one trained on. Blocks
/// spread evenly take each kind of text in proportion, and being long and contiguous (13 kB in Eigen's headers) they
/// are not given away by their neighbours, as scattered lines would be. Held-out bytes never reach the training side.
/// Throws weft::Error if the corpus is too short for one training and one held-out block of `min_block` bytes.
Split split_corpus(int64_t size, const SplitConfig& config = {});

/// Starts of windows of `window` bytes that tile the ranges from their beginnings, sharing one byte (the last target of
/// a window is the first input of the next), so that each byte but a range's first is predicted once. If that makes
/// more than `limit`, an evenly spread choice of them.
std::vector<int64_t> tile_windows(const std::vector<Range>& ranges, int64_t window,
                                  int64_t limit = std::numeric_limits<int64_t>::max());

struct SamplerConfig {
  int64_t window = 0;  ///< bytes a row: the sequence length + 1
  uint64_t seed = 0;
  /// false: an epoch visits windows that tile the ranges, in a new order and phase each time (nothing seen twice before
  /// all
  ///        has been seen once). true: every window starts anywhere, independently of the others.
  bool independent = false;
};

/// An endless, reproducible stream of training windows. It keeps a reference to the corpus.
class WindowSampler {
 public:
  /// Where the stream is; with the same corpus, ranges and config it determines all that follows.
  struct State {
    int64_t epoch = 0;  ///< passes over the ranges completed
    int64_t index = 0;  ///< windows drawn in this epoch
    bool operator==(const State&) const = default;
  };

  /// Throws weft::Error if no range is as long as a window.
  WindowSampler(const Bytes& corpus, std::vector<Range> ranges, SamplerConfig config);

  /// `rows` windows one after the other: [rows, window].
  Bytes next(int64_t rows);
  State state() const { return state_; }
  /// Throws weft::Error for a position outside an epoch.
  void restore(State state);
  int64_t windows_per_epoch() const { return windows_; }

 private:
  int64_t next_start();
  void start_epoch();

  const Bytes* corpus_;
  std::vector<Range> ranges_;
  SamplerConfig config_;
  int64_t windows_ = 0;  // per epoch
  State state_;
  std::vector<int64_t> order_;  // this epoch's window starts
};

}  // namespace weft::data

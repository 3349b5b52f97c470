// Reading corpora, holding text out, and drawing batches that can be continued anywhere.
#include <doctest/doctest.h>
#include <weft/examples/lm/gzip.h>
#include <weft/nn/data/text.h>
#include <weft/tensor/error.h>

#include <algorithm>
#include <fstream>
#include <numeric>
#include <set>

#include "support/message_of.h"
#include "support/temporary_folder.h"
#include "tools/write_gzip.h"

using namespace weft;
using namespace weft::data;
using namespace weft::test;
namespace fs = std::filesystem;

namespace {

Bytes read_any(const std::vector<fs::path>& paths, int64_t max_bytes = std::numeric_limits<int64_t>::max()) {
  return read_corpus(paths, max_bytes, lm::read_plain_or_gzip_file);
}

// Text that gzip cannot shrink to nothing.
std::string varied(size_t size) {
  std::string text;
  for (uint32_t x = 1; text.size() < size; x = x * 1664525u + 1013904223u)
    text += static_cast<char>('a' + (x >> 24) % 26);
  return text;
}

}  // namespace

TEST_CASE("a corpus is a plain file, a gzip file, or a folder in path order") {
  TemporaryFolder folder;
  const std::string text = varied(3'000'000);
  CHECK(decode_bytes(read_corpus({folder.write("plain", text)})) == text);
  CHECK(decode_bytes(read_corpus({folder / "plain"}, 2)) == text.substr(0, 2));
  CHECK(decode_bytes(read_any({write_gzip(folder / "packed", text)})) == text);
  CHECK(decode_bytes(read_any({folder / "plain"})) == text);
  CHECK(decode_bytes(read_any({folder / "plain"}, 1'500'000)) == text.substr(0, 1'500'000));
  CHECK(decode_bytes(read_any({folder / "packed"}, 1'500'000)) == text.substr(0, 1'500'000));

  TemporaryFolder tree;
  tree.write("b", "B"), tree.write("a/z", "Z"), tree.write("a/y", "Y"), tree.write(".git/x", "X"),
      tree.write(".h", "H");
  CHECK(decode_bytes(read_corpus({tree.path()})) == "YZB");
  CHECK(decode_bytes(read_corpus({tree / "b", tree / "a"})) == "BYZ");
}

TEST_CASE("broken corpora are errors that say what is wrong") {
  TemporaryFolder folder;
  const fs::path packed = write_gzip(folder / "packed", varied(100'000));
  const std::string where = folder.path().string();
  CHECK(message_of([&] { read_corpus({folder / "none"}); }) ==
        "read_corpus: no such file or folder: " + where + "/none");
  CHECK(message_of([&] { read_corpus({folder.write("empty", "")}); }) == "read_corpus: no text in " + where + "/empty");
  CHECK(message_of([&] { read_corpus({}); }) == "read_corpus: no text in no paths");

  CHECK(message_of([&] { read_corpus({packed}); }) ==
        "read_corpus: " + where + "/packed is gzip data; unpack it first");
  fs::copy_file(packed, folder / "cut");
  fs::resize_file(folder / "cut", fs::file_size(packed) / 2);
  CHECK(message_of([&] { read_any({folder / "cut"}); }) ==
        "read_corpus: " + where + "/cut is damaged: it ends in the middle of the gzip data");

  fs::copy_file(packed, folder / "bad");
  std::fstream(folder / "bad", std::ios::in | std::ios::out | std::ios::binary).seekp(2000).write("garbage!", 8);
  CHECK(message_of([&] { read_any({folder / "bad"}); }).starts_with("read_corpus: " + where + "/bad is damaged: "));
}

TEST_CASE("the split holds out evenly spread blocks and loses no byte") {
  for (const int64_t size : {100, 1'000, 12'345, 8'669'561}) {
    const Split split = split_corpus(size, {.min_block = 5});
    int64_t at = 0, held_out = 0;
    for (size_t i = 0; i < split.train.size(); ++i) {
      CHECK(split.train[i].begin == at);
      CHECK(split.train[i].end == split.valid[i].begin);
      at = split.valid[i].end;
      held_out += split.valid[i].size();
      CHECK(split.valid[i].size() >= 5);
    }
    CHECK(at == size);
    CHECK(std::abs(static_cast<double>(held_out) / static_cast<double>(size) - 0.05) < 0.01);
  }
  CHECK(split_corpus(8'669'561).valid.size() == 32);
  CHECK(split_corpus(1000, {.valid_fraction = 0.1, .blocks = 1}).valid == std::vector<Range>{{900, 1000}});
  CHECK(
      message_of([] { split_corpus(1000, {.min_block = 513}); }) ==
      "split_corpus: 1000 bytes are too few: need at least 1026 for a training and a held-out part of 513 bytes each");
  CHECK_THROWS_AS(split_corpus(1000, {.valid_fraction = 1.5}), Error);
}

TEST_CASE("validation windows predict each byte once") {
  const std::vector<Range> ranges{{0, 41}, {100, 109}, {200, 231}};
  CHECK(tile_windows(ranges, 11) == std::vector<int64_t>{0, 10, 20, 30, 200, 210, 220});
  CHECK(tile_windows(ranges, 11, 3) == std::vector<int64_t>{0, 20, 200});
  CHECK_THROWS_AS(tile_windows(ranges, 50), Error);
}

TEST_CASE("an epoch draws windows that do not overlap, in an order and phase of its own") {
  Bytes corpus(2000);
  std::iota(corpus.begin(), corpus.end(), uint8_t{0});  // the first byte and its range tell where a window starts
  WindowSampler sampler(corpus, {{0, 250}, {1000, 1250}}, {.window = 11, .seed = 7});
  const int64_t windows = sampler.windows_per_epoch();
  CHECK(windows == 2 * 23);
  std::set<Bytes> epochs;
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::multiset<uint8_t> seen;
    Bytes all;
    for (int64_t i = 0; i < windows; ++i) {
      const Bytes row = sampler.next(1);
      CHECK(std::adjacent_find(row.begin(), row.end(), [](uint8_t a, uint8_t b) { return uint8_t(a + 1) != b; }) ==
            row.end());
      seen.insert(row.begin(), row.end() - 1);
      all.insert(all.end(), row.begin(), row.end());
    }
    for (const uint8_t byte : seen) CHECK(seen.count(byte) <= 2);  // two ranges, each byte at most once in each
    CHECK(epochs.insert(all).second);
  }
}

TEST_CASE("a sampler restored to a saved position draws the same batches") {
  const Bytes corpus = encode_bytes(varied(5000));
  for (const bool independent : {false, true}) {
    const SamplerConfig config{.window = 65, .seed = 3, .independent = independent};
    const std::vector<Range> ranges{{10, 2000}, {2500, 5000}};
    WindowSampler sampler(corpus, ranges, config), other(corpus, ranges, config);
    for (int i = 0; i < 50; ++i) sampler.next(3);  // into the third epoch
    const auto state = sampler.state();
    const Bytes expected = sampler.next(100);
    other.restore(state);
    CHECK(other.next(100) == expected);
    CHECK(WindowSampler(corpus, ranges, {.window = 65, .seed = 4, .independent = independent}).next(9) !=
          WindowSampler(corpus, ranges, config).next(9));
  }
  WindowSampler sampler(corpus, {{0, 5000}}, {.window = 65});
  CHECK_THROWS_AS(sampler.restore({.epoch = 0, .index = 1 << 20}), Error);
  CHECK(message_of([&] {
          WindowSampler(corpus, {{0, 50}, {60, 90}}, {.window = 65});
        }) ==
        "WindowSampler: a window of 65 bytes is longer than the longest training range, 50 bytes; use a shorter "
        "sequence or "
        "a longer text");
}

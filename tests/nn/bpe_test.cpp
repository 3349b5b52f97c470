// The tokenizer against a recording of the tokenizers library (bpe/), and against what must hold for any text.
#include <doctest/doctest.h>
#include <weft/nn/data/bpe.h>
#include <weft/nn/data/pre_tokenize.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "support/temporary_folder.h"

using namespace weft;
using namespace weft::data;

namespace {

const std::filesystem::path kFolder = std::filesystem::path(WEFT_SOURCE_DIR) / "tests/nn/bpe";

nlohmann::json recorded() {
  std::ifstream file(kFolder / "recorded.json");
  return nlohmann::json::parse(file);
}

std::string corpus() {
  std::ifstream file(kFolder / "corpus.txt", std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::vector<std::string> pieces(std::string_view text) {
  std::vector<std::string> out;
  pre_tokenize(text, [&](std::string_view p) { out.emplace_back(p); });
  return out;
}

}  // namespace

TEST_CASE("bpe: pieces are those of GPT-2's pattern") {
  CHECK(pieces("Hello, world's  best 123abc!") ==
        std::vector<std::string>{"Hello", ",", " world", "'s", " ", " best", " 123", "abc", "!"});
  CHECK(pieces("a  \n b \n") == std::vector<std::string>{"a", "  \n", " b", " \n"});
  CHECK(pieces(" ") == std::vector<std::string>{" "});
  CHECK(pieces("x\n\ny") == std::vector<std::string>{"x", "\n", "\n", "y"});
  CHECK(pieces("\xff\xc3(") == std::vector<std::string>{"\xff\xc3("});
  CHECK(pieces("").empty());
  for (const auto& c : recorded()["pieces"])
    CHECK(pieces(c["text"].get<std::string>()) == c["pieces"].get<std::vector<std::string>>());
}

TEST_CASE("bpe: training learns the merges that the tokenizers library learns") {
  const auto r = recorded();
  const BpeTokenizer t = BpeTokenizer::train(corpus(), {.vocab_size = r["vocab_size"]});
  CHECK(t.vocab_size() == r["vocab_size"]);
  const test::TemporaryFolder folder;
  t.save(folder.path());
  std::ifstream mine(folder / "merges.txt"), theirs(kFolder / "merges.txt");
  const std::string a(std::istreambuf_iterator<char>(mine), {}), b(std::istreambuf_iterator<char>(theirs), {});
  CHECK(a == b);
  const BpeTokenizer again = BpeTokenizer::load(folder / "vocab.json", folder / "merges.txt");
  CHECK(again.encode("the tensor's gradient") == t.encode("the tensor's gradient"));
}

TEST_CASE("bpe: ids are those of the tokenizers library, from either form of its files") {
  const auto r = recorded();
  for (const BpeTokenizer& t : {BpeTokenizer::load(kFolder / "vocab.json", kFolder / "merges.txt"),
                                BpeTokenizer::load(kFolder / "tokenizer.json")}) {
    for (const auto& c : r["encoded"]) {
      const auto text = c["text"].get<std::string>();
      CHECK(t.encode(text) == c["ids"].get<std::vector<int64_t>>());
      CHECK(t.decode(t.encode(text)) == text);
    }
  }
}

TEST_CASE("bpe: any bytes come back, and long words take no quadratic time") {
  const BpeTokenizer t = BpeTokenizer::load(kFolder / "vocab.json", kFolder / "merges.txt");
  std::string all;
  for (int i = 0; i < 512; ++i) all += static_cast<char>(i * 7);
  CHECK(t.decode(t.encode(all)) == all);
  const std::string word(1 << 18, 'e');
  CHECK(t.decode(t.encode(word)) == word);
  CHECK(t.encode("").empty());
}

TEST_CASE("bpe: special tokens and batches") {
  const BpeTokenizer t = BpeTokenizer::load(kFolder / "vocab.json", kFolder / "merges.txt");
  const int64_t end = *t.id_of("<|endoftext|>");
  const auto ids = t.encode("a<|endoftext|>b");
  CHECK(std::count(ids.begin(), ids.end(), end) == 1);
  CHECK(t.decode(ids, true) == "ab");
  const auto plain = t.encode("a<|endoftext|>b", false);
  CHECK(std::count(plain.begin(), plain.end(), end) == 0);
  CHECK(t.decode(plain) == "a<|endoftext|>b");

  const auto right = t.encode_batch({"a", "a b c d e"});
  CHECK(right.ids.size(0) == 2);
  CHECK(right.mask.to_vector<int64_t>().front() == 1);
  CHECK(right.ids.select(0, 0).to_vector<int64_t>().back() == end);
  CHECK(right.mask.select(0, 0).to(int64).sum().item<int64_t>() == 1);
  const auto left = t.encode_batch({"a", "a b c d e"}, {.pad_left = true, .pad_id = 0, .max_length = 3});
  CHECK(left.ids.shape() == Shape{2, 3});
  CHECK(left.ids.select(0, 0).to_vector<int64_t>() == std::vector<int64_t>{0, 0, t.encode("a")[0]});
}

TEST_CASE("bpe: what is wrong with a file or an argument is said") {
  const BpeTokenizer t = BpeTokenizer::load(kFolder / "vocab.json", kFolder / "merges.txt");
  CHECK_THROWS_WITH(t.decode({1 << 20}), doctest::Contains("is no token of"));
  CHECK_THROWS_WITH(t.encode_batch({}), "BpeTokenizer: encode_batch got no texts");
  CHECK_THROWS_WITH(BpeTokenizer::train("x", {.vocab_size = 10}),
                    "BpeTokenizer: train needs a vocab_size of at least 257 for the bytes and special tokens, got 10");
  CHECK_THROWS_WITH(BpeTokenizer::load("nowhere.json", "nowhere.txt"), "BpeTokenizer: cannot read nowhere.json");
  CHECK_THROWS_WITH(BpeTokenizer::load(kFolder / "merges.txt", kFolder / "merges.txt"),
                    doctest::Contains("is not a JSON object"));
  CHECK_THROWS_WITH(BpeTokenizer::load(kFolder / "vocab.json"), doctest::Contains("holds no BPE model"));
  const test::TemporaryFolder folder;
  folder.write("merges.txt", "qq zz\n");
  CHECK_THROWS_WITH(BpeTokenizer::load(kFolder / "vocab.json", folder / "merges.txt"),
                    doctest::Contains("which is not in the vocabulary"));
  folder.write("merges.txt", "a b c\n");
  CHECK_THROWS_WITH(BpeTokenizer::load(kFolder / "vocab.json", folder / "merges.txt"),
                    doctest::Contains("merges.txt:1: expected two tokens"));
}

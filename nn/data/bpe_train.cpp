// Learning merges. Words are counted once; pairs keep their counts and the words they occur in, so that a merge touches
// only those.
#include <weft/nn/data/bpe.h>
#include <weft/nn/data/pre_tokenize.h>

#include <algorithm>
#include <queue>
#include <set>

namespace weft::data {
namespace {

struct Word {
  std::vector<int32_t> symbols;
  int64_t count;
};

using Pair = std::pair<int32_t, int32_t>;
struct PairHash {
  size_t operator()(const Pair& p) const {
    return std::hash<uint64_t>{}(uint64_t{static_cast<uint32_t>(p.first)} << 32 | static_cast<uint32_t>(p.second));
  }
};

class Pairs {
 public:
  void add(const Pair& p, int64_t count, size_t word) {
    counts_[p] += count;
    if (count > 0) words_[p].insert(word), changed_.insert(p);
  }
  // The most frequent pair, of equals the lowest; none where no pair is as frequent as least.
  std::optional<Pair> best(int64_t least) {
    for (const Pair& p : changed_) heap_.push({counts_[p], p});
    changed_.clear();
    while (!heap_.empty()) {
      const Entry top = heap_.top();
      heap_.pop();
      const int64_t count = counts_[top.pair];
      if (count != top.count) {  // it has changed since: back to its place
        if (count >= least) heap_.push({count, top.pair});
        continue;
      }
      return count >= least ? std::optional(top.pair) : std::nullopt;
    }
    return {};
  }
  std::set<size_t> take_words(const Pair& p) {
    counts_[p] = 0;
    return std::exchange(words_[p], {});
  }

 private:
  struct Entry {
    int64_t count;
    Pair pair;
    bool operator<(const Entry& o) const { return count != o.count ? count < o.count : pair > o.pair; }
  };
  std::unordered_map<Pair, int64_t, PairHash> counts_;
  std::unordered_map<Pair, std::set<size_t>, PairHash> words_;
  std::set<Pair> changed_;
  std::priority_queue<Entry> heap_;
};

// Every occurrence of p in a word becomes id; the counts of the pairs around follow.
void merge_in(Word& word, size_t index, const Pair& p, int32_t id, Pairs& pairs) {
  std::vector<int32_t>& s = word.symbols;
  for (size_t i = 0; i + 1 < s.size(); ++i) {
    if (s[i] != p.first || s[i + 1] != p.second) continue;
    if (i > 0) {
      pairs.add({s[i - 1], s[i]}, -word.count, index);
      pairs.add({s[i - 1], id}, word.count, index);
    }
    if (i + 2 < s.size()) {
      pairs.add({s[i + 1], s[i + 2]}, -word.count, index);
      pairs.add({id, s[i + 2]}, word.count, index);
    }
    s[i] = id;
    s.erase(s.begin() + static_cast<std::ptrdiff_t>(i) + 1);
  }
}

// Bytes in the order of the characters that GPT-2's files write them as: the printable ones, then the rest.
std::vector<uint8_t> bytes_in_order() {
  std::vector<uint8_t> printable, rest;
  for (int b = 0; b < 256; ++b) {
    const auto byte = static_cast<uint8_t>(b);
    (BpeTokenizer::is_printable(byte) ? printable : rest).push_back(byte);
  }
  printable.insert(printable.end(), rest.begin(), rest.end());
  return printable;
}

}  // namespace

BpeTokenizer BpeTokenizer::train(std::string_view text, const BpeTrainOptions& o) {
  const auto specials = static_cast<int64_t>(o.special_tokens.size());
  check(o.vocab_size >= 256 + specials, "BpeTokenizer: train needs a vocab_size of at least ", 256 + specials,
        " for the bytes and special tokens, got ", o.vocab_size);
  BpeTokenizer t;
  for (const std::string& name : o.special_tokens) t.add_special(name, t.vocab_size());
  for (const uint8_t b : bytes_in_order()) {
    t.ids_[std::string(1, static_cast<char>(b))] = static_cast<int32_t>(t.vocab_size());
    t.add_token(t.vocab_size(), std::string(1, static_cast<char>(b)));
  }
  t.finish();

  std::map<std::string_view, int64_t> counts;  // ordered: the same words in the same places every time
  pre_tokenize(text, [&](std::string_view piece) { ++counts[piece]; });
  std::vector<Word> words;
  Pairs pairs;
  for (const auto& [piece, count] : counts) {
    Word word{{}, count};
    for (const char b : piece) word.symbols.push_back(t.byte_ids_[static_cast<uint8_t>(b)]);
    for (size_t i = 0; i + 1 < word.symbols.size(); ++i)
      pairs.add({word.symbols[i], word.symbols[i + 1]}, count, words.size());
    words.push_back(std::move(word));
  }
  while (t.vocab_size() < o.vocab_size) {
    const auto best = pairs.best(std::max<int64_t>(o.min_frequency, 1));
    if (!best) break;
    // Two ways of merging can make one token; it then keeps its first id.
    const std::string bytes = t.token(best->first) + t.token(best->second);
    const auto [it, fresh] = t.ids_.try_emplace(bytes, static_cast<int32_t>(t.vocab_size()));
    const int32_t id = it->second;
    if (fresh) t.add_token(id, bytes);
    t.merges_.try_emplace(pair_key(best->first, best->second), Merge{static_cast<int32_t>(t.merge_list_.size()), id});
    t.merge_list_.push_back(*best);
    for (const size_t word : pairs.take_words(*best)) merge_in(words[word], word, *best, id, pairs);
  }
  return t;
}

}  // namespace weft::data

#include <weft/nn/data/bpe.h>
#include <weft/nn/data/pre_tokenize.h>
#include <weft/ops/create.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <queue>
#include <sstream>

namespace weft::data {
namespace {

using Json = nlohmann::ordered_json;

// --- bytes as printable characters
// --------------------------------------------------------------------------------------- GPT-2's files write a byte
// that is printable as itself and the others, in order, as the characters from U+0100 on.

void append_utf8(std::string& s, uint32_t c) {
  if (c < 0x80) {
    s += static_cast<char>(c);
  } else {  // no code point here is above U+0143
    s += static_cast<char>(0xc0 | c >> 6);
    s += static_cast<char>(0x80 | (c & 0x3f));
  }
}

struct ByteAlphabet {
  std::string of_byte[256];
  std::unordered_map<std::string, char> byte_of;
  ByteAlphabet() {
    uint32_t next = 0x100;
    for (uint32_t b = 0; b < 256; ++b) {
      append_utf8(of_byte[b], BpeTokenizer::is_printable(static_cast<uint8_t>(b)) ? b : next++);
      byte_of[of_byte[b]] = static_cast<char>(b);
    }
  }
};
const ByteAlphabet& alphabet() {
  static const ByteAlphabet a;
  return a;
}

std::string to_printable(std::string_view bytes) {
  std::string s;
  for (const char b : bytes) s += alphabet().of_byte[static_cast<uint8_t>(b)];
  return s;
}

// The bytes that text stands for; none where it holds a character outside the alphabet.
std::optional<std::string> from_printable(std::string_view text) {
  std::string bytes;
  for (size_t i = 0; i < text.size();) {
    const size_t n = static_cast<uint8_t>(text[i]) < 0x80 ? 1 : 2;
    const auto it = alphabet().byte_of.find(std::string(text.substr(i, n)));
    if (it == alphabet().byte_of.end()) return {};
    bytes += it->second, i += n;
  }
  return bytes;
}

// --- files -----------------------------------------------------------------------------------------------------------

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  check(file.good(), "BpeTokenizer: cannot read ", path.string());
  return std::string(std::istreambuf_iterator<char>(file), {});
}

Json read_json_file(const std::filesystem::path& path) {
  Json json = Json::parse(read_file(path), nullptr, false);
  check(json.is_object(), "BpeTokenizer: ", path.string(), " is not a JSON object");
  return json;
}

int64_t id_from(const Json& value, const std::string& token) {
  check(value.is_number_integer() && value.get<int64_t>() >= 0 && value.get<int64_t>() < (1 << 24),
        "BpeTokenizer: token ", token, " has no id from 0 on");
  return value.get<int64_t>();
}

std::pair<std::string, std::string> split_pair(const std::string& line, const std::string& where) {
  const size_t space = line.find(' ');
  check(space != std::string::npos && line.find(' ', space + 1) == std::string::npos, "BpeTokenizer: ", where,
        ": expected two tokens, got '", line, "'");
  return {line.substr(0, space), line.substr(space + 1)};
}

}  // namespace

// --- building --------------------------------------------------------------------------------------------------------

void BpeTokenizer::add_token(int64_t id, std::string bytes) {
  if (static_cast<int64_t>(tokens_.size()) <= id) tokens_.resize(static_cast<size_t>(id) + 1);
  auto& slot = tokens_[static_cast<size_t>(id)];
  check(!slot, "BpeTokenizer: two tokens have the id ", id);
  slot = std::move(bytes);
}

void BpeTokenizer::add_special(const std::string& name, int64_t id) {
  check(!name.empty(), "BpeTokenizer: a special token is empty");
  if (id >= vocab_size() || !tokens_[static_cast<size_t>(id)]) add_token(id, name);
  special_[name] = static_cast<int32_t>(id);
}

// Both tokens and what they become must be in the vocabulary; given as the files write them.
void BpeTokenizer::add_merge(std::string_view left, std::string_view right) {
  const auto find = [&](const std::string& printable) {
    const auto bytes = from_printable(printable);
    const auto it = bytes ? ids_.find(*bytes) : ids_.end();
    check(it != ids_.end(), "BpeTokenizer: the merge of '", left, "' and '", right, "' needs the token '", printable,
          "', which is not in the vocabulary");
    return it->second;
  };
  const int32_t a = find(std::string(left)), b = find(std::string(right)),
                merged = find(std::string(left) + std::string(right));
  merges_.try_emplace(pair_key(a, b), Merge{static_cast<int32_t>(merge_list_.size()), merged});
  merge_list_.emplace_back(a, b);
}

void BpeTokenizer::finish() {
  for (int b = 0; b < 256; ++b) {
    const auto it = ids_.find(std::string(1, static_cast<char>(b)));
    check(it != ids_.end(), "BpeTokenizer: the vocabulary lacks the byte ", b);
    byte_ids_[b] = it->second;
  }
}

BpeTokenizer BpeTokenizer::load(const std::filesystem::path& vocab_json, const std::filesystem::path& merges_txt,
                                const std::vector<std::string>& special_tokens) {
  BpeTokenizer t;
  const Json vocab = read_json_file(vocab_json);
  for (const auto& [token, value] : vocab.items()) {
    const int64_t id = id_from(value, token);
    if (std::find(special_tokens.begin(), special_tokens.end(), token) != special_tokens.end()) {
      t.add_special(token, id);
      continue;
    }
    const auto bytes = from_printable(token);
    check(bytes.has_value(), "BpeTokenizer: ", vocab_json.string(), ": '", token, "' is no byte-level token");
    t.add_token(id, *bytes);
    t.ids_[*bytes] = static_cast<int32_t>(id);
  }
  std::istringstream lines(read_file(merges_txt));
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty() || line.starts_with("#version")) continue;
    const auto [left, right] = split_pair(line, concat(merges_txt.string(), ":", number));
    t.add_merge(left, right);
  }
  t.finish();
  return t;
}

BpeTokenizer BpeTokenizer::load(const std::filesystem::path& tokenizer_json) {
  const std::string where = tokenizer_json.string();
  const Json json = read_json_file(tokenizer_json);
  const Json model = json.value("model", Json::object());
  check(model.is_object() && model.value("type", "BPE") == "BPE" && model.contains("vocab") && model.contains("merges"),
        "BpeTokenizer: ", where, " holds no BPE model with vocab and merges");
  BpeTokenizer t;
  for (const Json& added : json.value("added_tokens", Json::array())) {
    check(added.is_object() && added.contains("content") && added["content"].is_string(), "BpeTokenizer: ", where,
          ": an added token has no content");
    t.add_special(added["content"], id_from(added.value("id", Json()), added["content"]));
  }
  for (const auto& [token, value] : model["vocab"].items()) {
    if (t.special_.count(token)) continue;
    const auto bytes = from_printable(token);
    check(bytes.has_value(), "BpeTokenizer: ", where, ": '", token, "' is no byte-level token");
    const int64_t id = id_from(value, token);
    t.add_token(id, *bytes);
    t.ids_[*bytes] = static_cast<int32_t>(id);
  }
  for (const Json& merge : model["merges"]) {
    const bool is_pair = merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
    check(is_pair || merge.is_string(), "BpeTokenizer: ", where, ": a merge is not a pair of tokens");
    const auto [left, right] = is_pair ? std::pair{merge[0].get<std::string>(), merge[1].get<std::string>()}
                                       : split_pair(merge.get<std::string>(), where);
    t.add_merge(left, right);
  }
  t.finish();
  return t;
}

void BpeTokenizer::save(const std::filesystem::path& folder) const {
  std::filesystem::create_directories(folder);
  Json vocab = Json::object();
  for (size_t id = 0; id < tokens_.size(); ++id) {
    if (!tokens_[id]) continue;
    const auto special = special_.find(*tokens_[id]);
    const bool is_special = special != special_.end() && special->second == static_cast<int32_t>(id);
    vocab[is_special ? *tokens_[id] : to_printable(*tokens_[id])] = id;
  }
  std::ofstream vocab_file(folder / "vocab.json", std::ios::binary),
      merges_file(folder / "merges.txt", std::ios::binary);
  vocab_file << vocab.dump();
  merges_file << "#version: 0.2\n";
  for (const auto& [a, b] : merge_list_)
    merges_file << to_printable(*tokens_[static_cast<size_t>(a)]) << ' '
                << to_printable(*tokens_[static_cast<size_t>(b)]) << '\n';
  check(vocab_file.flush().good() && merges_file.flush().good(), "BpeTokenizer: cannot write into ", folder.string());
}

// --- text to ids -----------------------------------------------------------------------------------------------------

// Merges neighbours, the pair of the lowest rank first and of equals the leftmost. Symbols form a list that merging
// shortens; the heap holds candidates, of which those that no longer stand are passed over: n log n for n bytes.
void BpeTokenizer::encode_piece(std::string_view piece, std::vector<int64_t>& out) const {
  struct Symbol {
    int32_t id, previous, next;  // id -1: merged into the one before
  };
  const auto n = static_cast<int32_t>(piece.size());
  std::vector<Symbol> symbols;
  for (int32_t i = 0; i < n; ++i)
    symbols.push_back({byte_ids_[static_cast<uint8_t>(piece[static_cast<size_t>(i)])], i - 1, i + 1 < n ? i + 1 : -1});
  struct Candidate {
    int32_t rank, left, left_id, right_id, id;
    bool operator>(const Candidate& o) const { return rank != o.rank ? rank > o.rank : left > o.left; }
  };
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap;
  const auto at = [&](int32_t i) -> Symbol& { return symbols[static_cast<size_t>(i)]; };
  const auto propose = [&](int32_t left) {
    if (left < 0 || at(left).next < 0) return;
    const int32_t a = at(left).id, b = at(at(left).next).id;
    if (const auto it = merges_.find(pair_key(a, b)); it != merges_.end())
      heap.push({it->second.rank, left, a, b, it->second.id});
  };
  for (int32_t i = 0; i + 1 < n; ++i) propose(i);
  while (!heap.empty()) {
    const Candidate c = heap.top();
    heap.pop();
    Symbol& left = at(c.left);
    if (left.id != c.left_id || left.next < 0 || at(left.next).id != c.right_id) continue;
    Symbol& right = at(left.next);
    left.id = c.id, left.next = right.next, right.id = -1;
    if (left.next >= 0) at(left.next).previous = c.left;
    propose(left.previous);
    propose(c.left);
  }
  for (int32_t i = n ? 0 : -1; i >= 0; i = at(i).next) out.push_back(at(i).id);
}

std::vector<int64_t> BpeTokenizer::encode(std::string_view text, bool parse_special) const {
  std::vector<int64_t> ids;
  std::unordered_map<std::string_view, std::vector<int64_t>> seen;  // texts repeat their words
  const auto encode_text = [&](std::string_view part) {
    pre_tokenize(part, [&](std::string_view piece) {
      const auto [it, fresh] = seen.try_emplace(piece);
      if (fresh) encode_piece(piece, it->second);
      ids.insert(ids.end(), it->second.begin(), it->second.end());
    });
  };
  while (parse_special && !special_.empty()) {
    size_t first = std::string_view::npos;
    const std::pair<const std::string, int32_t>* found = nullptr;
    for (const auto& entry : special_) {  // the longer of two that begin alike comes first
      const size_t place = text.find(entry.first);
      if (place < first) first = place, found = &entry;
    }
    if (!found) break;
    encode_text(text.substr(0, first));
    ids.push_back(found->second);
    text.remove_prefix(first + found->first.size());
  }
  encode_text(text);
  return ids;
}

BpeTokenizer::Batch BpeTokenizer::encode_batch(const std::vector<std::string>& texts, const BpeBatchOptions& o) const {
  check(!texts.empty(), "BpeTokenizer: encode_batch got no texts");
  check(!o.max_length || *o.max_length > 0, "BpeTokenizer: max_length must be positive, got ",
        o.max_length.value_or(0));
  const std::optional<int64_t> pad = o.pad_id ? o.pad_id : id_of("<|endoftext|>");
  check(pad.has_value(), "BpeTokenizer: encode_batch needs a pad_id: there is no <|endoftext|> in this vocabulary");
  std::vector<std::vector<int64_t>> rows;
  size_t longest = 0;
  for (const std::string& text : texts) {
    rows.push_back(encode(text));
    if (o.max_length && static_cast<int64_t>(rows.back().size()) > *o.max_length)
      rows.back().resize(static_cast<size_t>(*o.max_length));
    longest = std::max(longest, rows.back().size());
  }
  std::vector<int64_t> ids;
  std::vector<bool> mask;
  for (const auto& row : rows) {
    const size_t padding = longest - row.size();
    const auto pads = [&] { ids.insert(ids.end(), padding, *pad), mask.insert(mask.end(), padding, false); };
    if (o.pad_left) pads();
    ids.insert(ids.end(), row.begin(), row.end()), mask.insert(mask.end(), row.size(), true);
    if (!o.pad_left) pads();
  }
  const Shape shape{static_cast<int64_t>(rows.size()), static_cast<int64_t>(longest)};
  return {tensor(ids, shape), tensor(mask, shape)};
}

// --- ids to text -----------------------------------------------------------------------------------------------------

const std::string& BpeTokenizer::token(int64_t id) const {
  check(id >= 0 && id < vocab_size() && tokens_[static_cast<size_t>(id)], "BpeTokenizer: ", id, " is no token of ",
        vocab_size());
  return *tokens_[static_cast<size_t>(id)];
}

std::optional<int64_t> BpeTokenizer::id_of(std::string_view token) const {
  if (const auto it = special_.find(std::string(token)); it != special_.end()) return it->second;
  const auto it = ids_.find(std::string(token));
  return it == ids_.end() ? std::nullopt : std::optional<int64_t>(it->second);
}

std::string BpeTokenizer::decode(const std::vector<int64_t>& ids, bool skip_special) const {
  std::string text;
  for (const int64_t id : ids) {
    const std::string& bytes = token(id);
    if (skip_special) {
      const auto it = special_.find(bytes);
      if (it != special_.end() && it->second == id) continue;
    }
    text += bytes;
  }
  return text;
}

}  // namespace weft::data

// GPT-2's tokenizer: byte-level byte-pair encoding (Radford et al., 2019; merges as in Sennrich et al.,
// arXiv:1508.07909).
#pragma once

#include <weft/tensor/tensor.h>

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace weft::data {

struct BpeTrainOptions {
  int64_t vocab_size = 8192;  ///< special tokens, 256 bytes and merges together
  int64_t min_frequency = 2;  ///< a pair that occurs less often is not merged
  std::vector<std::string> special_tokens = {"<|endoftext|>"};
};

struct BpeBatchOptions {
  bool pad_left = false;
  std::optional<int64_t> pad_id = {};      ///< default: the end-of-text token, as is the custom with GPT-2
  std::optional<int64_t> max_length = {};  ///< longer texts are cut at the end
};

/// Turns text into token ids and back. Every text can be encoded, and decode(encode(text)) == text for any bytes.
/// Constant once made: safe to use from many threads.
class BpeTokenizer {
 public:
  /// From GPT-2's two files, vocab.json (token to id) and merges.txt (one pair a line, best first); those of
  /// special_tokens that are in the vocabulary are special. Throws where a file is missing, malformed, or a merge makes
  /// a token that the vocabulary lacks.
  static BpeTokenizer load(const std::filesystem::path& vocab_json, const std::filesystem::path& merges_txt,
                           const std::vector<std::string>& special_tokens = {"<|endoftext|>"});
  /// From one tokenizer.json of the tokenizers library, of model type BPE.
  static BpeTokenizer load(const std::filesystem::path& tokenizer_json);
  /// Learns merges from a text: the most frequent pair first, of equally frequent ones that of the lower ids, as the
  /// tokenizers library does. Ids: special tokens, bytes, merges in order.
  static BpeTokenizer train(std::string_view text, const BpeTrainOptions& options = {});

  /// Special tokens in the text become their ids; with parse_special = false they are text like any other.
  std::vector<int64_t> encode(std::string_view text, bool parse_special = true) const;
  /// Throws for an id that is no token. The bytes may be invalid UTF-8 where ids end in the middle of a character.
  std::string decode(const std::vector<int64_t>& ids, bool skip_special = false) const;

  struct Batch {
    Tensor ids;   ///< int64 [b, n], n the longest text's length
    Tensor mask;  ///< bool [b, n], true at real tokens
  };
  Batch encode_batch(const std::vector<std::string>& texts, const BpeBatchOptions& options = {}) const;

  int64_t vocab_size() const { return static_cast<int64_t>(tokens_.size()); }
  /// The bytes of a token; throws for an id that is none.
  const std::string& token(int64_t id) const;
  /// The id of a token given by its bytes (or of a special one by its name).
  std::optional<int64_t> id_of(std::string_view token) const;

  /// Whether GPT-2's files write a byte as the Latin-1 character of that number; the others stand as those from U+0100
  /// on.
  static constexpr bool is_printable(uint8_t b) {
    return (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
  }

  /// Writes vocab.json and merges.txt into a folder, in GPT-2's format. Throws where it cannot.
  void save(const std::filesystem::path& folder) const;

 private:
  struct Merge {
    int32_t rank, id;  // of the pair: the lower rank goes first, and becomes id
  };
  static uint64_t pair_key(int32_t a, int32_t b) {
    return uint64_t{static_cast<uint32_t>(a)} << 32 | static_cast<uint32_t>(b);
  }
  void add_token(int64_t id, std::string bytes);
  void add_merge(std::string_view left, std::string_view right);
  void add_special(const std::string& name, int64_t id);
  void finish();
  void encode_piece(std::string_view piece, std::vector<int64_t>& ids) const;

  std::vector<std::optional<std::string>> tokens_;  // bytes by id; a hole is no token
  std::unordered_map<std::string, int32_t> ids_;    // without the special ones
  std::map<std::string, int32_t, std::greater<>> special_;
  std::unordered_map<uint64_t, Merge> merges_;
  std::vector<std::pair<int32_t, int32_t>> merge_list_;
  int32_t byte_ids_[256];
};

}  // namespace weft::data

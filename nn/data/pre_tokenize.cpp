#include <weft/nn/data/pre_tokenize.h>

#include <algorithm>
#include <cstdint>
#include <iterator>

namespace weft::data {
namespace {

struct Range {
  uint32_t first, last;
};
#include <weft/nn/data/unicode_tables.inc>

template <size_t N>
bool contains(const Range (&table)[N], uint32_t c) {
  const Range* after = std::upper_bound(table, table + N, c, [](uint32_t v, const Range& r) { return v < r.first; });
  return after != table && c <= after[-1].last;
}

enum class Kind : uint8_t { letter, number, space, other };

Kind kind_of(uint32_t c) {
  if (contains(kLetters, c)) return Kind::letter;
  if (contains(kNumbers, c)) return Kind::number;
  return contains(kSpaces, c) ? Kind::space : Kind::other;
}

struct Character {
  Kind kind;
  size_t bytes;
};

// The character that text, which is not empty, begins with.
Character first_character(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {kind_of(lead), 1};
  const size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < bytes) return {Kind::other, 1};
  uint32_t c = lead & (0x7fu >> bytes);
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {Kind::other, 1};
    c = c << 6 | (byte(i) & 0x3f);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  if (c < kLeast[bytes] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return {Kind::other, 1};
  return {kind_of(c), bytes};
}

// 's and its like; 0 where text begins with none of them.
size_t contraction(std::string_view text) {
  for (const std::string_view end : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
    if (text.starts_with(end)) return end.size();
  }
  return 0;
}

// Bytes of the characters of one kind that text begins with.
size_t run_of(Kind kind, std::string_view text) {
  size_t length = 0;
  while (length < text.size()) {
    const Character c = first_character(text.substr(length));
    if (c.kind != kind) break;
    length += c.bytes;
  }
  return length;
}

// White space that goes on to the end of the text is one piece; before something else its last character is left to
// that piece, unless it stands alone.
size_t white_space(std::string_view text) {
  size_t length = 0, last = 0;
  while (length < text.size()) {
    const Character c = first_character(text.substr(length));
    if (c.kind != Kind::space) break;
    last = c.bytes, length += c.bytes;
  }
  return length == text.size() || length == last ? length : length - last;
}

size_t first_piece(std::string_view text) {
  if (const size_t n = contraction(text)) return n;
  const size_t lead = text[0] == ' ' && text.size() > 1 ? 1 : 0;
  const Kind kind = first_character(text.substr(lead)).kind;
  return kind == Kind::space ? white_space(text) : lead + run_of(kind, text.substr(lead));
}

}  // namespace

void pre_tokenize(std::string_view text, const std::function<void(std::string_view)>& f) {
  while (!text.empty()) {
    const size_t n = first_piece(text);
    f(text.substr(0, n));
    text.remove_prefix(n);
  }
}

}  // namespace weft::data

#include <weft/examples/lm/gzip.h>
#include <weft/examples/trained/pcf.h>
#include <weft/tensor/error.h>

#include <limits>

namespace weft::examples {
namespace {

// The kinds of tables, and the bits of a table's format.
enum Kind : int64_t { kProperties = 1, kMetrics = 4, kBitmaps = 8, kEncodings = 32 };
constexpr int64_t kPadMask = 3, kBigEndian = 4, kHighBitFirst = 8, kCompressedMetrics = 0x100;

// Numbers one after another from a place in the file, in a byte order.
class Reader {
 public:
  Reader(const data::Bytes& file, int64_t at, bool big_endian = false)
      : file_(&file), at_(at), big_endian_(big_endian) {}

  int64_t u8() {
    check(at_ >= 0 && at_ < static_cast<int64_t>(file_->size()), "the file ends too early");
    return (*file_)[static_cast<size_t>(at_++)];
  }
  int64_t u16() { return number(2); }
  int64_t i16() { return static_cast<int16_t>(number(2)); }
  int64_t i32() { return static_cast<int32_t>(number(4)); }
  // A count of things that take at least `bytes` each: no more than the file has room for.
  int64_t count(int64_t bytes, bool in_two_bytes = false) {
    const int64_t n = in_two_bytes ? i16() : i32();
    check(n >= 0 && n * bytes <= static_cast<int64_t>(file_->size()), "a table of ", n, " entries cannot be");
    return n;
  }
  std::string zero_terminated() {
    std::string text;
    while (const int64_t c = u8()) text += static_cast<char>(c);
    return text;
  }
  void skip(int64_t bytes) { at_ += bytes; }
  int64_t position() const { return at_; }
  Reader at(int64_t position) const { return Reader(*file_, position, big_endian_); }

 private:
  int64_t number(int bytes) {
    int64_t value = 0;
    for (int i = 0; i < bytes; ++i) value |= u8() << 8 * (big_endian_ ? bytes - 1 - i : i);
    return value;
  }
  const data::Bytes* file_;
  int64_t at_;
  bool big_endian_;
};

struct Table {
  int64_t format = 0;
  Reader reader;  // after the format
};

// A table begins with its own format, little-endian; the rest is in the byte order that it tells.
Table open_table(const data::Bytes& file, Kind wanted) {
  Reader directory(file, 4);
  for (int64_t left = directory.count(16); left > 0; --left) {
    const int64_t kind = directory.i32();
    directory.skip(8);
    const int64_t offset = directory.i32();
    if (kind != wanted) continue;
    const int64_t format = Reader(file, offset).i32();
    return {format, Reader(file, offset + 4, format & kBigEndian)};
  }
  fail("it has no table of kind ", static_cast<int64_t>(wanted));
}

std::map<std::string, std::string> read_properties(Reader in) {
  struct Entry {
    int64_t name, is_text, value;
  };
  std::vector<Entry> entries;
  const int64_t n = in.count(9);
  for (int64_t i = 0; i < n; ++i) {
    Entry entry{};
    entry.name = in.i32(), entry.is_text = in.u8(), entry.value = in.i32();
    entries.push_back(entry);
  }
  in.skip((4 - n % 4) % 4 + 4);  // 9 n bytes are filled up to a multiple of four; then the size of the text
  const int64_t text = in.position();
  std::map<std::string, std::string> properties;
  for (const Entry& e : entries)
    properties[in.at(text + e.name).zero_terminated()] =
        e.is_text ? in.at(text + e.value).zero_terminated() : std::to_string(e.value);
  return properties;
}

// Every glyph, without its pixels.
std::vector<PcfGlyph> read_metrics(Table table) {
  Reader& in = table.reader;
  const bool compressed = table.format & kCompressedMetrics;
  std::vector<PcfGlyph> glyphs;
  for (int64_t left = compressed ? in.count(5, true) : in.count(12); left > 0; --left) {
    int64_t m[5];  // left and right edge, advance, ascent, descent
    for (int64_t& value : m) value = compressed ? in.u8() - 0x80 : in.i16();
    if (!compressed) in.skip(2);  // attributes
    check(m[1] >= m[0] && m[3] + m[4] >= 0, "a glyph of negative size");
    glyphs.push_back({.left = m[0], .ascent = m[3], .width = m[1] - m[0], .height = m[3] + m[4], .pixels = {}});
  }
  return glyphs;
}

// A row of pixels is bits, filled up to whole units of 1, 2, 4 or 8 bytes.
void read_bitmaps(Table table, std::vector<PcfGlyph>& glyphs) {
  const bool high_bit_first = table.format & kHighBitFirst;
  check(high_bit_first == static_cast<bool>(table.format & kBigEndian), "bits and bytes in different orders");
  const int64_t unit = int64_t{8} << (table.format & kPadMask);  // bits
  Reader& in = table.reader;
  const int64_t n = in.count(4);
  check(n == static_cast<int64_t>(glyphs.size()), n, " bitmaps for ", glyphs.size(), " glyphs");
  const int64_t data = in.position() + 4 * n + 16;  // after the offsets and four sizes
  for (PcfGlyph& glyph : glyphs) {
    Reader row = in.at(data + in.i32());
    for (int64_t y = 0; y < glyph.height; ++y) {
      int64_t byte = 0;
      for (int64_t x = 0; x < (glyph.width + unit - 1) / unit * unit; ++x) {
        if (x % 8 == 0) byte = row.u8();
        if (x < glyph.width)
          glyph.pixels.push_back(static_cast<uint8_t>(byte >> (high_bit_first ? 7 - x % 8 : x % 8) & 1));
      }
    }
  }
}

// Codes below 256, as far as the font has them.
std::map<int64_t, PcfGlyph> by_code(Reader in, const std::vector<PcfGlyph>& glyphs) {
  const int64_t first = in.i16(), last = in.i16(), first_row = in.i16();
  in.skip(4);  // the last row, the default character
  std::map<int64_t, PcfGlyph> map;
  if (first_row != 0) return map;
  for (int64_t code = first; code <= last; ++code) {
    const int64_t glyph = in.u16();
    if (glyph == 0xffff) continue;
    check(glyph < static_cast<int64_t>(glyphs.size()), "a code for glyph ", glyph, " of ", glyphs.size());
    map[code] = glyphs[static_cast<size_t>(glyph)];
  }
  return map;
}

}  // namespace

PcfFont read_pcf(const std::filesystem::path& path) {
  data::Bytes file;
  lm::read_plain_or_gzip_file(path, std::numeric_limits<int64_t>::max(), file);
  try {
    check(file.size() > 8 && std::string(file.begin(), file.begin() + 4) == "\1fcp", "it does not begin as one");
    std::vector<PcfGlyph> glyphs = read_metrics(open_table(file, kMetrics));
    read_bitmaps(open_table(file, kBitmaps), glyphs);
    return {.properties = read_properties(open_table(file, kProperties).reader),
            .glyphs = by_code(open_table(file, kEncodings).reader, glyphs)};
  } catch (const Error& e) {
    fail(path.string(), " is no PCF font: ", e.what());
  }
}

}  // namespace weft::examples

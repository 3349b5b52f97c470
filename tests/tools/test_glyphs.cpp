// Bitmap fonts, written here byte by byte and read back; the images and names made of them.
#include <doctest/doctest.h>
#include <weft/examples/trained/glyphs.h>
#include <weft/examples/trained/pcf.h>
#include <weft/tensor/error.h>

#include <fstream>
#include <numeric>

#include "support/message_of.h"
#include "support/temporary_folder.h"
#include "tools/write_gzip.h"

using namespace weft;
using namespace weft::examples;
using namespace weft::test;
namespace fs = std::filesystem;

namespace {

// A PCF file of the given variant: byte and bit order, metrics of one or two bytes, rows filled up to `pad` bytes.
struct Writer {
  bool big = true, compressed = true;
  int pad_log = 2;

  std::string number(int64_t value, int bytes, bool big_endian) const {
    std::string text;
    for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> 8 * (big_endian ? bytes - 1 - i : i) & 0xff);
    return text;
  }
  std::string i32(int64_t v) const { return number(v, 4, big); }
  std::string i16(int64_t v) const { return number(v, 2, big); }
  int64_t format() const { return (big ? 4 + 8 : 0) | pad_log; }

  std::string properties(const PcfFont& font) const {
    std::string entries, text;
    for (const auto& [name, value] : font.properties) {
      const bool is_text = value.empty() || value.find_first_not_of("0123456789") != std::string::npos;
      entries += i32(static_cast<int64_t>(text.size())) + (is_text ? '\1' : '\0');
      text += name + '\0';
      entries += i32(is_text ? static_cast<int64_t>(text.size()) : std::stoll(value));
      if (is_text) text += value + '\0';
    }
    entries.resize((entries.size() + 3) / 4 * 4);
    return i32(static_cast<int64_t>(font.properties.size())) + entries + i32(static_cast<int64_t>(text.size())) + text;
  }
  std::string metrics(const PcfFont& font) const {
    const auto n = static_cast<int64_t>(font.glyphs.size());
    std::string out = compressed ? i16(n) : i32(n);
    for (const auto& [code, g] : font.glyphs) {
      for (const int64_t v : {g.left, g.left + g.width, int64_t{9}, g.ascent, g.height - g.ascent})
        out += compressed ? std::string(1, static_cast<char>(v + 0x80)) : i16(v);
      if (!compressed) out += i16(0);
    }
    return out;
  }
  std::string bitmaps(const PcfFont& font) const {
    std::string offsets, data;
    for (const auto& [code, g] : font.glyphs) {
      offsets += i32(static_cast<int64_t>(data.size()));
      for (int64_t y = 0; y < g.height; ++y) {
        const int64_t unit = int64_t{1} << pad_log;
        std::string row(static_cast<size_t>((g.width + 8 * unit - 1) / (8 * unit) * unit), '\0');
        for (int64_t x = 0; x < g.width; ++x)
          if (g.pixels[static_cast<size_t>(y * g.width + x)])
            row[static_cast<size_t>(x / 8)] |= static_cast<char>(big ? 0x80 >> x % 8 : 1 << x % 8);
        data += row;
      }
    }
    return i32(static_cast<int64_t>(font.glyphs.size())) + offsets + i32(0) + i32(0) + i32(0) + i32(0) + data;
  }
  std::string encodings(const PcfFont& font) const {
    const int64_t first = font.glyphs.begin()->first, last = font.glyphs.rbegin()->first;
    std::string out = i16(first) + i16(last) + i16(0) + i16(0) + i16(first);
    int64_t index = 0;
    for (int64_t code = first; code <= last; ++code) out += i16(font.glyphs.contains(code) ? index++ : 0xffff);
    return out;
  }
  std::string operator()(const PcfFont& font) const {
    const std::vector<std::pair<int64_t, std::string>> tables{
        {1, properties(font)}, {4, metrics(font)}, {8, bitmaps(font)}, {32, encodings(font)}};
    std::string directory = "\1fcp" + number(4, 4, false), body;
    for (const auto& [kind, table] : tables) {
      const int64_t f = format() | (kind == 4 && compressed ? 0x100 : 0);
      directory += number(kind, 4, false) + number(f, 4, false) + number(static_cast<int64_t>(table.size()), 4, false) +
                   number(static_cast<int64_t>(8 + 4 * 16 + body.size()), 4, false);
      body += number(f, 4, false) + table;
    }
    return directory + body;
  }
};

PcfGlyph glyph(int64_t left, int64_t ascent, const std::vector<std::string>& rows) {
  PcfGlyph g{.left = left,
             .ascent = ascent,
             .width = static_cast<int64_t>(rows.at(0).size()),
             .height = static_cast<int64_t>(rows.size()),
             .pixels = {}};
  for (const std::string& row : rows)
    for (const char c : row) g.pixels.push_back(c == '#');
  return g;
}

PcfFont small_font(const std::string& family) {
  return {.properties = {{"FAMILY_NAME", family},
                         {"PIXEL_SIZE", "10"},
                         {"CHARSET_REGISTRY", "ISO8859"},
                         {"CHARSET_ENCODING", "1"}},
          .glyphs = {{'-', glyph(1, 4, {"####"})},
                     {'A', glyph(0, 3, {".#.", "###", "#.#"})},
                     {'i', glyph(-1, 2, {"#", "#"})},
                     {'l', glyph(1, 2, {"#", "#"})},
                     {'w', glyph(0, 2, {"#.......#", "##.....##", "#########"})}}};
}

}  // namespace

TEST_CASE("PCF fonts: every byte order, kind of metrics and padding gives the same glyphs") {
  TemporaryFolder folder;
  const PcfFont font = small_font("Test Sans");
  for (const bool big : {true, false})
    for (const bool compressed : {true, false})
      for (const int pad_log : {0, 2}) {
        const std::string bytes = Writer{big, compressed, pad_log}(font);
        for (const auto& file : {folder.write("a.pcf", bytes), write_gzip(folder / "a.pcf.gz", bytes)}) {
          const PcfFont read = read_pcf(file);
          CHECK(read.properties == font.properties);
          REQUIRE(read.glyphs.size() == font.glyphs.size());
          for (const auto& [code, g] : font.glyphs) {
            const PcfGlyph& other = read.glyphs.at(code);
            CHECK(other.left == g.left);
            CHECK(other.ascent == g.ascent);
            CHECK(other.width == g.width);
            CHECK(other.height == g.height);
            CHECK(other.pixels == g.pixels);
          }
        }
      }
}

TEST_CASE("PCF fonts: whatever is cut off or overwritten is an error or another font, never a crash") {
  TemporaryFolder folder;
  const std::string bytes = Writer{}(small_font("Test Sans"));
  for (size_t size = 0; size < bytes.size(); size += 7)
    CHECK(message_of([&] {
            read_pcf(folder.write("cut.pcf", bytes.substr(0, size)));
          }).find("cut.pcf is no PCF font") != std::string::npos);
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0xff);
    message_of([&] { read_pcf(folder.write("damaged.pcf", damaged)); });
  }
}

TEST_CASE("glyph images: scaled by the em, standing on the baseline, split by family") {
  TemporaryFolder folder;
  folder.write("train.pcf", Writer{}(small_font("Test Sans")));
  PcfFont held_out = small_font("Helvetica");
  held_out.glyphs['B'] = held_out.glyphs['A'];
  held_out.glyphs['A'] = glyph(0, 3, {"###", "#.#", "#.#"});
  held_out.glyphs['C'] = held_out.glyphs['A'];
  write_gzip(folder / "test.pcf.gz", Writer{}(held_out));
  PcfFont other_codes = small_font("Symbols");
  other_codes.properties["CHARSET_REGISTRY"] = "Adobe";
  folder.write("symbols.pcf", Writer{}(other_codes));

  const GlyphData data = load_glyphs(folder.path());
  CHECK(data.train.fonts == 1);
  CHECK(data.train.families == std::set<std::string>{"Test Sans"});
  CHECK(data.test.families == std::set<std::string>{"Helvetica"});
  CHECK(data.train.size() == 4);  // A, i, l, w: the hyphen is neither letter nor digit
  CHECK(data.repeated == 4);      // B, i, l, w of the held-out font: their bitmaps are A, i, l, w of the other
  CHECK(data.test.size() == 2);   // A and C
  CHECK(data.ambiguous == 2);
  CHECK(glyph_name(data.test.classes[1]) == "capital c");
  CHECK(glyph_name(7) == "digit seven");
  CHECK(glyph_name(61) == "small z");

  // An em of ten pixels is twenty rows: each bitmap pixel is two by two. A is three wide, its foot on the baseline.
  const Tensor image = data.train.images({0});
  CHECK(image.shape() == Shape{1, 1, 24, 24});
  const auto ink = image.to_vector<float>();
  const std::vector<std::string> rows{".#.", "###", "#.#"};
  for (int64_t y = 0; y < 24; ++y)
    for (int64_t x = 0; x < 24; ++x) {
      const bool inside = y >= 13 && y < 19 && x >= 9 && x < 15;
      const bool expected = inside && rows[static_cast<size_t>((y - 13) / 2)][static_cast<size_t>((x - 9) / 2)] == '#';
      CHECK(ink[static_cast<size_t>(y * 24 + x)] == (expected ? 1.0f : 0.0f));
    }
  // Distorted ones hold about the same ink.
  const auto distorted = data.train.images({0}, 0.1).to_vector<float>();
  CHECK(distorted != ink);
  CHECK(std::accumulate(distorted.begin(), distorted.end(), 0.0) ==
        doctest::Approx(std::accumulate(ink.begin(), ink.end(), 0.0)).epsilon(0.3));

  CHECK(message_of([] { load_glyphs("/nonexistent"); }) ==
        "no fonts in /nonexistent: install the Debian package xfonts-75dpi, or give --fonts");
}

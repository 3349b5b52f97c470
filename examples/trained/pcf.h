// Reading bitmap fonts of the X Window System (Portable Compiled Format; the format is defined by its writer and reader
// in libXfont and described in fontforge's documentation).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace weft::examples {

struct PcfGlyph {
  int64_t left = 0;    // column of the bitmap's left edge, from the character's origin
  int64_t ascent = 0;  // rows of the bitmap above the baseline; negative if it begins below
  int64_t width = 0, height = 0;
  std::vector<uint8_t> pixels;  // [height, width], 1 where there is ink
};

struct PcfFont {
  std::map<std::string, std::string> properties;  // FAMILY_NAME, PIXEL_SIZE, CHARSET_REGISTRY, ...; numbers as text
  std::map<int64_t, PcfGlyph> glyphs;             // by code in the font's own character set, up to 255
};

// A .pcf or .pcf.gz file. Throws weft::Error for one that is damaged or no such font.
PcfFont read_pcf(const std::filesystem::path& path);

}  // namespace weft::examples

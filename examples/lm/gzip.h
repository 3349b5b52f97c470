// Reading text that may be packed with gzip.
#pragma once

#include <weft/nn/data/text.h>

namespace weft::lm {

// A reader for weft::data::read_corpus that takes plain and gzip files (told apart by their content, not their name).
// Throws weft::Error for damaged gzip data.
void read_plain_or_gzip_file(const std::filesystem::path& path, int64_t max_bytes, data::Bytes& into);

}  // namespace weft::lm

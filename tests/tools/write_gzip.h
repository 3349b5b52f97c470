#pragma once

#include <zlib.h>

#include <filesystem>
#include <string>

namespace weft::test {

/// Writes a gzip file that unpacks to these bytes.
inline std::filesystem::path write_gzip(const std::filesystem::path& path, const std::string& bytes) {
  const gzFile file = ::gzopen(path.c_str(), "wb");
  ::gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
  ::gzclose(file);
  return path;
}

}  // namespace weft::test

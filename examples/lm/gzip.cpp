#include <weft/examples/lm/gzip.h>
#include <weft/tensor/error.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

namespace weft::lm {

void read_plain_or_gzip_file(const std::filesystem::path& path, int64_t max_bytes, data::Bytes& into) {
  errno = 0;
  const gzFile file = ::gzopen(path.c_str(), "rb");  // hands plain files through unchanged
  check(file != nullptr, "read_corpus: cannot open ", path.string(), ": ", std::strerror(errno));
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> closer(file, ::gzclose);
  constexpr int64_t kChunk = 1 << 20;
  ::gzbuffer(file, kChunk);
  while (static_cast<int64_t>(into.size()) < max_bytes) {
    const size_t before = into.size();
    const int64_t wanted = std::min(kChunk, max_bytes - static_cast<int64_t>(before));
    into.resize(before + static_cast<size_t>(wanted));
    const int got = ::gzread(file, into.data() + before, static_cast<unsigned>(wanted));
    into.resize(before + static_cast<size_t>(std::max(got, 0)));
    int status = Z_OK;
    const char* reason = ::gzerror(file, &status);
    if (status == Z_ERRNO) reason = std::strerror(errno);
    // A file cut off in the middle of a gzip stream gives the bytes it has, and this status with the last of them.
    if (status == Z_BUF_ERROR) reason = "it ends in the middle of the gzip data";
    check(got >= 0 && status != Z_BUF_ERROR, "read_corpus: ", path.string(), " is damaged: ", reason);
    if (got < wanted) break;
  }
}

}  // namespace weft::lm

// Reads the public headers of the ops: what they declare is what the samples must cover.
#include "support/walker.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

namespace weft::test {

namespace {

// One declaration with its comments: text up to a ';' or a '{...}' body at namespace level.
struct Declaration {
  std::string comment, code;
};

std::string trim(const std::string& s) {
  const size_t a = s.find_first_not_of(" \t\n"), b = s.find_last_not_of(" \t\n");
  return a == std::string::npos ? "" : s.substr(a, b - a + 1);
}

// Splits the inside of namespace weft into declarations. Bodies of classes, functions and inner namespaces are dropped
// with everything in them.
std::vector<Declaration> declarations(const std::string& text) {
  std::vector<Declaration> out;
  Declaration now;
  int depth = 0, base = 0;
  bool ended = true;  // the last declaration is complete; a comment on the same line still belongs to it
  for (size_t i = 0; i < text.size(); ++i) {
    if (text.compare(i, 2, "//") == 0) {
      const size_t end = std::min(text.find('\n', i), text.size());
      const std::string comment = text.substr(i, end - i) + "\n";
      const bool trailing = ended && !out.empty() && comment.starts_with("///<");
      (trailing ? out.back().comment : now.comment) += comment;
      i = end;
      continue;
    }
    if (text[i] == '#') {
      i = std::min(text.find('\n', i), text.size());
      continue;
    }
    const char c = text[i];
    if (c == '{') {
      if (depth == base && trim(now.code) == "namespace weft") {
        now = {}, ++depth, ++base;
        continue;
      }
      ++depth;
      continue;
    }
    const bool closes = c == '}';
    if (closes && --depth < base) {
      base = depth;
      now = {};
      continue;
    }
    // Default arguments like `= {}` also close a brace: a body ends a declaration only outside parentheses.
    const bool open_paren =
        std::count(now.code.begin(), now.code.end(), '(') > std::count(now.code.begin(), now.code.end(), ')');
    if (depth == base && !open_paren && (c == ';' || closes)) {
      if (!trim(now.code).empty()) out.push_back(now), ended = true;
      now = {};
      continue;
    }
    if (depth == base && !closes) {
      now.code += c;
      if (!std::isspace(static_cast<unsigned char>(c))) ended = false;
    }
  }
  return out;
}

}  // namespace

std::vector<PublicOp> public_ops(const std::string& source_dir) {
  namespace fs = std::filesystem;
  std::vector<PublicOp> ops;
  const std::regex form(
      R"(^(?:inline\s+|template\s*<[^>]*>\s*)*(?:Tensor|Tensors|std::(?:tuple|pair|array)<[^()]*>|[A-Z]\w*)\s+(\w+)\s*\()");
  std::vector<fs::path> headers;
  for (const auto& entry : fs::directory_iterator(fs::path(source_dir) / "ops")) {
    const std::string name = entry.path().filename().string();
    if (entry.path().extension() != ".h" || name == "kernel.h" || name.ends_with("_fn.h") || name.ends_with("_op.h"))
      continue;
    headers.push_back(entry.path());
  }
  std::sort(headers.begin(), headers.end());
  for (const fs::path& path : headers) {
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    for (const Declaration& d : declarations(text.str())) {
      std::smatch m;
      const std::string code = trim(d.code);
      if (!std::regex_search(code, m, form)) continue;
      const std::string name = m[1];
      if (name.starts_with("operator") || name.ends_with("_")) continue;
      const bool non_differentiable = d.comment.find("non_differentiable") != std::string::npos;
      auto known = std::find_if(ops.begin(), ops.end(), [&](const PublicOp& o) { return o.name == name; });
      if (known == ops.end())
        ops.push_back({name, path.filename().string(), non_differentiable});
      else
        known->declared_non_differentiable |= non_differentiable;
    }
  }
  return ops;
}

}  // namespace weft::test

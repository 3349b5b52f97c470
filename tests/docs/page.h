// What a page of the guide runs with: show(value) prints it and remembers the line; finish compares all of them with the
// comments beside the show() calls in the page.
#pragma once

#include <weft/autograd/node.h>
#include <weft/nn/data/bpe.h>
#include <weft/weft.h>
#ifdef WEFT_CUDA
#include <weft/cuda/graph.h>
#endif

#include <cstdio>
#include <fstream>

using namespace weft;

inline std::vector<std::string> shown;

template <class T>
void show(const T& value) {
  std::string line = concat(value);
  for (size_t at; (at = line.find('\n')) != std::string::npos;) line.replace(at, 1, "\\n");
  std::printf("%s\n", line.c_str());
  shown.push_back(line);
}

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

inline int finish(const char* page) {
  std::ifstream in(page);
  size_t count = 0;
  int wrong = 0;
  bool code = false;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("```")) code = line == "```cpp";
    const size_t comment = line.rfind("// ");
    if (!code || line.find("show(") != 0 || comment == std::string::npos) continue;
    const std::string want = line.substr(comment + 3), got = count < shown.size() ? shown[count] : "nothing";
    if (want != got) std::printf("%s: the page says\n  %s\nbut it is\n  %s\n", page, want.c_str(), got.c_str()), ++wrong;
    ++count;
  }
  if (count != shown.size()) std::printf("%s: %zu values on the page, %zu shown\n", page, count, shown.size()), ++wrong;
  return wrong == 0 && count > 0 ? 0 : 1;
}

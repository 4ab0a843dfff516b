#include <array>

#include "format/gguf.hpp"
#include "fuzz_input.hpp"
#include "gemlet/error.hpp"
#include "gguf_builder.hpp"

// Any bytes as the parts of a split GGUF file: refused with an Error, or every tensor lies in the part that it is said
// to lie in. The first byte chooses the part by which the model is opened; each part follows its length.
namespace {

constexpr std::array names = {"split-00001-of-00003.gguf", "split-00002-of-00003.gguf", "split-00003-of-00003.gguf"};

void read(const std::filesystem::path& path) {
  try {
    const gemlet::GgufFile file(path);
    for (const gemlet::Tensor& tensor : file.tensors()) {
      const auto bytes = file.part_of(tensor).file.bytes();
      const bool inside = tensor.data >= bytes.data() && tensor.data + tensor.bytes() <= bytes.data() + bytes.size();
      fuzz::expect(inside, "tensors lie in their files");
      fuzz::expect(file.find_tensor(tensor.name) == &tensor, "a tensor is found by its name");
    }
    (void)gemlet::fingerprint(file);
    (void)file.header(file.tensors().size());
  } catch (const gemlet::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const gguf::TemporaryDirectory directory;
  fuzz::Input input(data, size);
  const std::size_t opened = input.below(names.size());
  for (const char* name : names) directory.write(name, input.text(2));
  read(directory.path() / names[opened]);
  return 0;
}

// Hands a module's XML to 3D Slicer's own parser and registers what it finds, as qSlicerCLIModule does in Slicer.
// slicer-core brings the libraries but no headers, so that what is needed of them is declared here.
#include <string>

struct ModuleDescription {
  ModuleDescription();
  ModuleDescription(const ModuleDescription&);
  ~ModuleDescription();
  void SetType(const std::string&);
  void SetLocation(const std::string&);
  void SetTarget(const std::string&);
  alignas(16) char storage[4096];  // more than it takes
};

struct ModuleDescriptionParser {
  int Parse(const std::string&, ModuleDescription&);
  alignas(16) char storage[64];
};

struct vtkMRMLCommandLineModuleNode {
  static void RegisterModuleDescription(ModuleDescription);
};

// Returns the parser's answer, 0 if it understood everything.
extern "C" int register_module(const char* xml, const char* python, const char* script) {
  ModuleDescription description;
  ModuleDescriptionParser parser;
  const int answer = parser.Parse(xml, description);
  if (answer == 0) {
    description.SetType("CommandLineModule");
    description.SetLocation(python);
    description.SetTarget(script);
    vtkMRMLCommandLineModuleNode::RegisterModuleDescription(description);
  }
  return answer;
}

"""The command line: LightningCLI's commands and the tools beside them, their parser, and what it says of a mistake."""

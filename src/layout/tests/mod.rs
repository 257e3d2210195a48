mod golden;
mod prompts;

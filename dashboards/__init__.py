"""What a person looks at; reads studies and writes none."""
